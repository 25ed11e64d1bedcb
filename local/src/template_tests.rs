use std::time::Duration;

use super::*;

const ONE: &str = r#"
Parameters: {Ttl: {Type: Number, Default: 15}, Who: {Type: String}}
Globals: {Function: {Timeout: 10, Environment: {Variables: {TTL: !Ref Ttl, A: 1}}}}
Resources:
  Api: {Type: AWS::Serverless::HttpApi, Properties: {Auth: {DefaultAuthorizer: Jwt, Authorizers: {Jwt: {JwtConfiguration: {issuer: !Ref Who, audience: [x]}}}}}}
  DoRole: {Type: AWS::IAM::Role, Properties: {Policies: [{PolicyDocument: {Statement: [{Effect: Allow, Action: dynamodb:GetItem, Resource: !GetAtt Things.Arn}]}}]}}
  Things: {Type: AWS::DynamoDB::Table, Properties: {TableName: !Sub "${AWS::StackName}-things", BillingMode: PAY_PER_REQUEST}}
  Do:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: do-it}}
    Properties:
      Role: !GetAtt DoRole.Arn
      Timeout: 5
      Environment: {Variables: {A: !GetAtt Things.Arn, T: !Ref Things}}
      Events: {One: {Type: HttpApi, Properties: {Method: post, Path: "/a/{id}"}}, Two: {Type: HttpApi, Properties: {Method: GET, Path: /b, Auth: {Authorizer: NONE}}}}
"#;

fn given() -> BTreeMap<String, String> {
    [("Who".to_owned(), "issuer".to_owned())].into()
}

#[test]
fn references_are_resolved_and_globals_are_overridden() {
    let template = Template::parse(ONE, &given(), "http://x").unwrap();
    let function = &template.functions[0];
    assert_eq!((function.name.as_str(), function.timeout), ("do-it", Duration::from_secs(5)));
    assert_eq!(function.environment["TTL"], "15");
    assert_eq!(function.environment["T"], "holdfast-things");
    assert_eq!(function.environment["A"], "arn:aws:dynamodb:us-east-1:000000000000:table/holdfast-things");
    assert_eq!(function.statements[0]["Resource"], function.environment["A"]);
    let route =
        |method: &str, path: &str, protected| Route { method: method.into(), path: path.into(), protected };
    assert_eq!(function.routes, [route("POST", "/a/{id}", true), route("GET", "/b", false)]);
    assert_eq!((template.issuer.as_str(), template.audience.as_str()), ("issuer", "x"));
}

#[test]
fn conditions_choose() {
    let text = ONE.replace("TTL: !Ref Ttl", "TTL: !If [Long, a, !If [Short, !Ref Ttl, c]]")
        + "Conditions: {Short: !Not [{Condition: Long}], Long: !Equals [!Ref Ttl, 60]}\n";
    let ttl = |given: &BTreeMap<String, String>| {
        Template::parse(&text, given, "http://x").unwrap().functions[0].environment["TTL"].clone()
    };
    let mut given = given();
    assert_eq!(ttl(&given), "15");
    given.insert("Ttl".to_owned(), "60".to_owned());
    assert_eq!(ttl(&given), "a");
    let wrong = text.replace("[Long, a", "[Nope, a");
    let wrong = Template::parse(&wrong, &given, "http://x").unwrap_err().to_string();
    assert!(wrong.contains("no condition Nope"), "{wrong}");
}

/// The environment of the one function, whose variable TTL is set to this.
fn with_ttl(value: &str, conditions: &str, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let text = ONE.replace("TTL: !Ref Ttl", &format!("TTL: {value}"));
    let text = format!("{text}Conditions: {{{conditions}}}\n");
    Template::parse(&text, given, "http://x").unwrap().functions.remove(0).environment
}

#[test]
fn conditions_are_combined_in_whatever_order_they_stand() {
    let conditions = "Both: !And [!Condition Named, !Condition Long], One: !Or [!Condition Named, {Condition: Long}], \
                      Long: !Equals [!Ref Ttl, 60], Named: !Not [!Equals [!Ref Who, '']]";
    let value = "!If [Both, both, !If [One, one, none]]";
    for (who, long, expected) in
        [("x", "60", "both"), ("x", "1", "one"), ("", "60", "one"), ("", "1", "none")]
    {
        let given = [("Who".to_owned(), who.to_owned()), ("Ttl".to_owned(), long.to_owned())].into();
        assert_eq!(with_ttl(value, conditions, &given)["TTL"], expected, "{who:?} {long}");
    }
    let text = format!("{ONE}Conditions: {{A: !Not [!Condition B], B: !Not [!Condition A]}}\n");
    let circle = Template::parse(&text, &given(), "http://x").unwrap_err().to_string();
    assert!(circle.contains("condition A: there is no condition B, or it needs itself"), "{circle}");
}

#[test]
fn what_is_set_to_no_value_is_not_written() {
    let set = |who: &str| {
        let given = [("Who".to_owned(), who.to_owned())].into();
        with_ttl("!If [Named, !Ref Who, !Ref AWS::NoValue]", "Named: !Not [!Equals [!Ref Who, '']]", &given)
    };
    assert_eq!(set("x")["TTL"], "x");
    assert!(!set("").contains_key("TTL"));
}

#[test]
fn texts_are_put_together() {
    let ttl = |value: &str| with_ttl(value, "", &given())["TTL"].clone();
    assert_eq!(ttl("!Join ['-', [a, !Ref Ttl, 3]]"), "a-15-3");
    assert_eq!(ttl("!Sub ['${Ttl}/${Own}/${!Ttl}', {Own: !Ref Who}]"), "15/issuer/${Ttl}");
    assert_eq!(ttl("!GetAtt [Things, Arn]"), ttl("!GetAtt Things.Arn"));
}

#[test]
fn what_is_not_made_is_not_run() {
    let text = ONE.replace("Things: {Type:", "Things: {Condition: Made, Type:")
        + "Conditions: {Made: !Equals [!Ref Ttl, 60]}\n";
    let tables = |given| Template::parse(&text, &given, "http://x").unwrap().tables.len();
    let mut given = given();
    assert_eq!(tables(given.clone()), 0);
    given.insert("Ttl".to_owned(), "60".to_owned());
    assert_eq!(tables(given), 1);
}

#[test]
fn schedules_are_rates_or_daily_and_may_be_off() {
    let schedules = |event: &str| {
        let event = format!("Events: {{Often: {{Type: ScheduleV2, Properties: {{{event}}}}}, One:");
        let template = Template::parse(&ONE.replace("Events: {One:", &event), &given(), "http://x");
        template.map(|template| template.functions[0].schedules.clone())
    };
    let calls = |schedule, event: &str| vec![(schedule, event.to_owned())];
    let every = |seconds| calls(Schedule::Every(Duration::from_secs(seconds)), "{}");
    assert_eq!(schedules("ScheduleExpression: rate(1 minute)").unwrap(), every(60));
    assert_eq!(schedules("ScheduleExpression: rate(2 days)").unwrap(), every(172_800));
    let night = calls(Schedule::Daily(Duration::from_secs((3 * 60 + 30) * 60)), "{}");
    assert_eq!(schedules("ScheduleExpression: cron(30 3 * * ? *)").unwrap(), night);
    assert_eq!(schedules("ScheduleExpression: rate(1 minute), State: DISABLED").unwrap(), []);
    let asks = r#"ScheduleExpression: rate(1 minute), Input: !Sub '{"every": ${Ttl}}'"#;
    let ttl = Duration::from_secs(60);
    assert_eq!(schedules(asks).unwrap(), calls(Schedule::Every(ttl), r#"{"every": 15}"#));
    for unknown in
        ["rate(0 minutes)", "rate(1 week)", "cron(30 24 * * ? *)", "cron(0 3 ? * MON *)", "at(2030-01-01)"]
    {
        let error = schedules(&format!("ScheduleExpression: {unknown}")).unwrap_err().to_string();
        assert!(error.contains("event Often: ScheduleExpression is"), "{error}");
    }
}

/// The limits of throughput on AWS are no part of the database of this machine.
#[test]
fn tables_are_made_without_their_limits() {
    let limits =
        "OnDemandThroughput: {MaxReadRequestUnits: !Ref Ttl}, WarmThroughput: {ReadUnitsPerSecond: 1}";
    let index = format!("GlobalSecondaryIndexes: [{{IndexName: due, {limits}}}]");
    let text = ONE.replace("BillingMode:", &format!("{limits}, {index}, BillingMode:"));
    let template = Template::parse(&text, &given(), "http://x").unwrap();
    let expected = serde_json::json!({
        "TableName": "holdfast-things", "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [{"IndexName": "due"}],
    });
    assert_eq!(template.tables[0].create, expected);
}

#[test]
fn a_queue_keeps_within_the_limits_of_sqs() {
    let queue = |attribute: &str| {
        let queue = format!("  Q: {{Type: AWS::SQS::Queue, Properties: {{QueueName: q, {attribute}}}}}\n");
        let template = Template::parse(&format!("{ONE}{queue}"), &given(), "http://x");
        template.map(|template| template.queues[0].clone())
    };
    assert_eq!(queue("DelaySeconds: 900").unwrap().delay_seconds, 900);
    assert_eq!(queue("VisibilityTimeout: '43200'").unwrap().visibility_seconds, 43_200);
    for (wrong, says) in [
        ("DelaySeconds: 901", "resource Q: DelaySeconds is 0 to 900, not 901"),
        ("DelaySeconds: -5", "resource Q: -5 is no number"),
        ("VisibilityTimeout: 43201", "resource Q: VisibilityTimeout is 0 to 43200, not 43201"),
    ] {
        assert_eq!(queue(wrong).unwrap_err().to_string(), says);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let wrong = |text: &str, given: &BTreeMap<String, String>| {
        Template::parse(text, given, "http://x").unwrap_err().to_string()
    };
    assert!(wrong(ONE, &BTreeMap::new()).contains("parameter Who has no default"));
    assert!(wrong(&ONE.replace("!Ref Ttl", "!Ref Nope"), &given()).contains("Nope"));
    assert!(wrong(&ONE.replace("Path: /b", "Path: b"), &given()).contains("must begin with a slash"));
    assert!(wrong(&ONE.replace("DefaultAuthorizer: Jwt, ", ""), &given()).contains("public"));
    let unknown = [("Who".to_owned(), "x".to_owned()), ("Foo".to_owned(), "1".to_owned())].into();
    assert!(wrong(ONE, &unknown).contains("there is no parameter Foo; there are Ttl, Who"));
    assert!(wrong("Resources: {", &given()).contains("not YAML"));
    assert!(wrong("Resources: {}", &BTreeMap::new()).contains("no AWS::Serverless::Function"));
}
