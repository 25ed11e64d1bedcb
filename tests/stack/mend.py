"""What the tests themselves do about the stack, mostly because ministack lacks something.

    mend.py before TEMPLATE [BINARIES]        rewrites a built template in place
    mend.py after STACK TEMPLATE DESCRIPTION  writes the file that HOLDFAST_STACK names

ministack is asked over its API (boto3 takes address and credentials from the environment).
"""

import copy
import json
import os
import re
import sys
import uuid
from types import SimpleNamespace
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import boto3
import yaml
from samtranslator.translator.transform import transform

# Types that ministack's CloudFormation does not know: it would refuse the whole template.
UNKNOWN = (
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentGroup",
    "AWS::Events::Archive",
    "AWS::Logs::QueryDefinition",
)
ROLES = ("ADMIN", "SYSTEM")
# How soon a failed order event comes again, in seconds.
ORDER_VISIBILITY = 2


# -- Before the deploy: a template in, a template out; what refers to what is resolved by the server.


def before(path, binaries=None):
    template = read(path)
    resources = template["Resources"]
    if binaries:
        use_binaries(resources, binaries)
    leave_out(template)
    use_numbers(template)
    widen_policies(template)
    add_routes(template)
    with open(path, "w") as file:
        json.dump(template, file, indent=1)


def use_binaries(resources, folder):
    """In place of `sam build`: binaries that are there already, as `cargo lambda build` lays them down."""
    for name, resource in of_type(resources, "AWS::Serverless::Function").items():
        resource["Properties"]["CodeUri"] = os.path.abspath(os.path.join(folder, binary(name)))


def leave_out(template):
    """ministack refuses a template with resources of a type that it does not know, and fails on alarms over
    more than one metric. What watches such a one goes with it. No test sees any of this."""
    resources = template["Resources"]
    gone = [
        name
        for name, resource in resources.items()
        if resource["Type"] in UNKNOWN
        or resource["Type"] == "AWS::CloudWatch::Alarm"
        and "Metrics" in resource["Properties"]
    ]
    for name in gone:
        print(f"left out, ministack cannot: {resources.pop(name)['Type']} {name}")
        for other, resource in resources.items():
            watches = resource["Type"].startswith("AWS::CloudWatch::") and other not in gone
            if watches and re.search(rf'["{{]{name}[".}}]', json.dumps(resource)):
                gone.append(other)
    for place in (*resources.values(), template.get("Globals", {}).get("Function", {})):
        place.get("Properties", place).pop("DeploymentPreference", None)


def use_numbers(template):
    """A parameter comes as text, and ministack compares the sizes of batches with numbers."""
    parameters = template["Parameters"]
    for function in of_type(template["Resources"], "AWS::Serverless::Function").values():
        for event in function["Properties"].get("Events", {}).values():
            for settings in (event["Properties"], event["Properties"].get("ScalingConfig", {})):
                for name, value in settings.items():
                    parameter = parameters.get(value.get("Ref")) if isinstance(value, dict) else None
                    if parameter and parameter["Type"] == "Number":
                        settings[name] = parameter["Default"]


def widen_policies(node):
    """ministack does not know `dynamodb:LeadingKeys`. To `ForAllValues` an unknown key is no hindrance, to
    any other operator, `Null` above all, it is: the statement would never apply. Actions and tables stay."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        widen_policies(child)
    conditions = node.get("Condition") if isinstance(node, dict) else None
    if isinstance(conditions, dict):
        for keys in conditions.values():
            keys.pop("dynamodb:LeadingKeys", None)
        node["Condition"] = {operator: keys for operator, keys in conditions.items() if keys}
        if not node["Condition"]:
            del node["Condition"]


def add_routes(template):
    """ministack does not read the OpenAPI document in which SAM describes an HTTP API, and so makes an API
    without routes. The same routes and authorizers again, as resources."""
    resources = template["Resources"]
    uploaded = copy.deepcopy(template)
    for function in of_type(uploaded["Resources"], "AWS::Serverless::Function").values():
        function["Properties"]["CodeUri"] = "s3://any/where"
    processed = transform(uploaded, {}, SimpleNamespace(load=dict))["Resources"]
    for api, resource in of_type(processed, "AWS::ApiGatewayV2::Api").items():
        document = resource["Properties"]["Body"]
        for name, scheme in document.get("components", {}).get("securitySchemes", {}).items():
            authorizer = scheme["x-amazon-apigateway-authorizer"]
            resources[f"{api}Authorizer{name}"] = of_api(
                api,
                "Authorizer",
                AuthorizerType="JWT",
                Name=name,
                IdentitySource=[authorizer["identitySource"]],
                JwtConfiguration={
                    "Issuer": authorizer["jwtConfiguration"]["issuer"],
                    "Audience": authorizer["jwtConfiguration"]["audience"],
                },
            )
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                add_route(resources, api, f"{method.upper()} {path}", operation)


def add_route(resources, api, key, operation):
    called = operation["x-amazon-apigateway-integration"]
    uri = called["uri"]
    integration = logical_id(api, "Integration", re.search(r"/functions/\$\{(.*?)\}", uri["Fn::Sub"])[1])
    resources[integration] = of_api(
        api,
        "Integration",
        IntegrationType="AWS_PROXY",
        IntegrationUri=uri,
        PayloadFormatVersion=called["payloadFormatVersion"],
    )
    route = of_api(api, "Route", RouteKey=key, Target={"Fn::Sub": f"integrations/${{{integration}}}"})
    for scheme in operation.get("security", []):
        for authorizer, scopes in scheme.items():
            if authorizer != "NONE":
                route["Properties"] |= {
                    "AuthorizationType": "JWT",
                    "AuthorizerId": {"Ref": f"{api}Authorizer{authorizer}"},
                    "AuthorizationScopes": scopes,
                }
    resources[logical_id(api, "Route", key)] = route


def of_api(api, kind, **properties):
    return {"Type": f"AWS::ApiGatewayV2::{kind}", "Properties": {"ApiId": {"Ref": api}, **properties}}


def logical_id(*words):
    """Letters and digits only, and still one for each."""
    return re.sub(r"[^0-9A-Za-z]", lambda sign: f"x{ord(sign[0]):02x}", "".join(words))


# -- After the deploy


def after(stack, path, description):
    resources = {}
    pages = boto3.client("cloudformation").get_paginator("list_stack_resources")
    for page in pages.paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            resources[resource["LogicalResourceId"]] = resource["PhysicalResourceId"]
    template = read(path)["Resources"]
    sqs = boto3.client("sqs")
    # A poison message is to reach the dead-letter queue within the patience of a test.
    sqs.set_queue_attributes(
        QueueUrl=resources["OrderQueue"], Attributes={"VisibilityTimeout": str(ORDER_VISIBILITY)}
    )
    aws = os.environ["AWS_ENDPOINT_URL"]
    api = resources[next(iter(of_type(template, "AWS::Serverless::HttpApi")))]
    about = {
        "stack": stack,
        # The host name that AWS gives an API resolves nowhere; ministack takes it as a path.
        "apiUrl": f"{aws}/_aws/execute-api/{api}/$default",
        "awsUrl": aws,
        "region": os.environ["AWS_DEFAULT_REGION"],
        # Root: everything is allowed, and the signature is not looked at.
        "accessKeyId": os.environ["AWS_ACCESS_KEY_ID"],
        "secretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"],
        "orderQueueUrl": resources["OrderQueue"],
        "orderDeadLetterQueueUrl": resources["OrderDeadLetterQueue"],
        "publisherDeadLetterQueueUrl": resources["PublisherDeadLetterQueue"],
        "eventBus": resources["EventBus"],
        "publishedQueueUrl": listen(sqs, resources["EventBus"]),
        "inventoryTable": resources["InventoryTable"],
        "ledgerTable": resources["LedgerTable"],
        "functions": functions(template, resources),
        "tokens": tokens(resources),
        "ministackPid": int(os.environ["MINISTACK_PID"]),
        "ministackLog": os.environ["MINISTACK_LOG"],
    }
    with open(description, "w") as file:
        json.dump(about, file, indent=1)


def functions(template, resources):
    """By binary: name, ARN, and the role, for a test that takes a permission away."""
    found = {}
    for name in of_type(template, "AWS::Serverless::Function"):
        made = boto3.client("lambda").get_function(FunctionName=resources[name])["Configuration"]
        role = made["Role"].rsplit("/", 1)[1]
        policies = boto3.client("iam").list_role_policies(RoleName=role)["PolicyNames"]
        found[binary(name)] = {
            "name": resources[name],
            "arn": made["FunctionArn"],
            "role": role,
            "policies": policies,
        }
    return found


def binary(function):
    """`StockAdmin` is `stock-admin`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", function).lower()


def listen(sqs, bus):
    """A queue of the tests' own, in which everything lands that Holdfast publishes."""
    queue = sqs.create_queue(QueueName=f"{bus}-published")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events = boto3.client("events")
    pattern = json.dumps({"source": ["holdfast"]})
    events.put_rule(Name="published", EventBusName=bus, EventPattern=pattern)
    events.put_targets(Rule="published", EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    return queue


# -- Tokens


def tokens(resources):
    """Tokens of users in one group, in both, and in none; and of the client for machines."""
    cognito = boto3.client("cognito-idp")
    pool = resources["UserPool"]
    found = {}
    for listed in cognito.list_user_pool_clients(UserPoolId=pool, MaxResults=60)["UserPoolClients"]:
        described = cognito.describe_user_pool_client(UserPoolId=pool, ClientId=listed["ClientId"])
        client = described["UserPoolClient"]
        if "client_credentials" in client.get("AllowedOAuthFlows", []):
            found["MACHINE"] = client_token(client)
        else:
            users = {role: [role] for role in ROLES} | {"ALL": ROLES, "NOBODY": []}
            found |= {user: user_token(cognito, client, user, roles) for user, roles in users.items()}
    return found


def user_token(cognito, client, user, roles):
    pool, user, password = client["UserPoolId"], f"test-{user}".lower(), f"Aa1!{uuid.uuid4()}"
    cognito.admin_create_user(
        UserPoolId=pool, Username=user, TemporaryPassword=password, MessageAction="SUPPRESS"
    )
    cognito.admin_set_user_password(UserPoolId=pool, Username=user, Password=password, Permanent=True)
    for role in roles:
        cognito.admin_add_user_to_group(UserPoolId=pool, Username=user, GroupName=role)
    signed_in = cognito.admin_initiate_auth(
        UserPoolId=pool,
        ClientId=client["ClientId"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": user, "PASSWORD": password},
    )
    return signed_in["AuthenticationResult"]["AccessToken"]


def client_token(client):
    """Of a machine, that signs in for itself. It is in no group, it has scopes."""
    form = urlencode({
        "grant_type": "client_credentials",
        "client_id": client["ClientId"],
        "client_secret": client["ClientSecret"],
    })
    with urlopen(Request(f"{os.environ['AWS_ENDPOINT_URL']}/oauth2/token", form.encode())) as answer:
        return json.load(answer)["access_token"]


# -- Templates


def read(path):
    with open(path) as file:
        return yaml.load(file, Loader)


def of_type(resources, name):
    return {key: value for key, value in resources.items() if value["Type"] == name}


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as the long ones."""


def short_form(loader, name, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


Loader.add_multi_constructor("!", short_form)

if __name__ == "__main__":
    {"before": before, "after": after}[sys.argv[1]](*sys.argv[2:])
