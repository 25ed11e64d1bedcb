//! Commands that talk to a running `holdfast`.

use serde_json::{Value, json};

use crate::account::{ACCOUNT_ID, STACK_NAME};

/// Sends an order event into the queue.
///
/// # Errors
/// If it is no JSON, or nobody is there.
pub fn send_event(event: &str, aws_port: u16) -> Result<(), String> {
    serde_json::from_str::<Value>(event).map_err(|e| format!("the event is not JSON: {e}"))?;
    let url = format!("http://127.0.0.1:{aws_port}");
    let queue = format!("{url}/{ACCOUNT_ID}/{STACK_NAME}-orders");
    let request = json!({"QueueUrl": queue, "MessageBody": event});
    let sent = post(&url, Some("AmazonSQS.SendMessage"), &request)?;
    match sent["MessageId"].as_str() {
        Some(id) => {
            println!("{id}");
            Ok(())
        }
        None => Err(sent.to_string()),
    }
}

/// Prints what the reconciliation finds.
///
/// # Errors
/// If something does not add up or could not be compared, or nobody is there.
pub fn reconcile(asked: &Value, aws_port: u16) -> Result<(), String> {
    let report = invoke("reconcile", asked, aws_port)?;
    println!("{report:#}");
    judge_report(&report)
}

/// The verdict of a report.
fn judge_report(report: &Value) -> Result<(), String> {
    let differs = report["differences"].as_array().is_some_and(|differences| !differences.is_empty());
    match report["holds"].as_bool() {
        Some(true) => Ok(()),
        Some(false) if differs => Err("something does not add up".to_owned()),
        Some(false) => Err("not everything could be compared".to_owned()),
        None => Err("the reconciliation failed".to_owned()),
    }
}

/// Lambda's Invoke: what a function of a running `holdfast` answers.
///
/// # Errors
/// If nobody is there.
pub fn invoke(function: &str, event: &Value, aws_port: u16) -> Result<Value, String> {
    let url = format!("http://127.0.0.1:{aws_port}/2015-03-31/functions/{function}/invocations");
    post(&url, None, event)
}

fn post(url: &str, target: Option<&str>, request: &Value) -> Result<Value, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let mut post = reqwest::Client::new().post(url).body(request.to_string());
        if let Some(target) = target {
            post = post.header("x-amz-target", target);
        }
        let answer =
            post.send().await.map_err(|_| format!("no holdfast answers at {url}; is it running?"))?;
        answer.json().await.map_err(|e| e.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_is_a_success() {
        let verdict = |report: Value| judge_report(&report).err().unwrap_or_default();
        assert_eq!(verdict(json!({"holds": true, "differences": [], "notCompared": []})), "");
        let differs = json!({"holds": false, "differences": [{"what": "x"}], "notCompared": [{}]});
        assert_eq!(verdict(differs), "something does not add up");
        let not_compared = json!({"holds": false, "differences": [], "notCompared": [{"stockUnit": "A"}]});
        assert_eq!(verdict(not_compared), "not everything could be compared");
        assert_eq!(verdict(json!({"errorMessage": "time is up"})), "the reconciliation failed");
    }
}
