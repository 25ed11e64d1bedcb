"""Starts ministack, with one thing mended that no call to it can mend.

It takes a batch of a DynamoDB stream for done when the function reports single records as failed: they
would be lost. Lambda tries again, from the first failed record on.
"""

from ministack import app
from ministack.services import lambda_svc

execute = lambda_svc._execute_function
# How many records of a batch are done; a batch is known by its first record.
done = {}


def execute_from_first_failed(function, event):
    records = event.get("Records") or [{}]
    if records[0].get("eventSource") != "aws:dynamodb":
        return execute(function, event)
    batch = records[0]["eventID"]
    result = execute(function, {**event, "Records": records[done.get(batch, 0) :]})
    answer = result.get("body")
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if result.get("error"):
        return result
    if not failures:
        done.pop(batch, None)
        return result
    failed = [failure["itemIdentifier"] for failure in failures]
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    # A number that is not of this batch fails all of it.
    if set(failed) <= set(numbers):
        done[batch] = min(numbers.index(number) for number in failed)
    # An error: ministack stays where it is in the stream, and comes again in a second.
    return {**result, "error": True, "body": {"errorType": "BatchItemFailures", "errorMessage": f"{failed}"}}


lambda_svc._execute_function = execute_from_first_failed

if __name__ == "__main__":
    app.main()
