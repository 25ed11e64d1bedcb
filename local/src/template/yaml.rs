//! YAML as JSON, with CloudFormation's short tags as their long forms.

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

use super::value::{BadTemplate, bad, plain};

/// A YAML document as JSON; CloudFormation's short tags become their long forms (`!Ref X` becomes `{"Ref": "X"}`).
///
/// # Errors
/// If it is no YAML, or has what JSON cannot say.
pub fn yaml_as_json(text: &str) -> Result<Value, BadTemplate> {
    let documents = Yaml::load_from_str(text).map_err(|e| bad(format!("not YAML: {e}")))?;
    to_json(documents.first().ok_or_else(|| bad("it is empty"))?)
}

fn to_json(yaml: &Yaml) -> Result<Value, BadTemplate> {
    match yaml {
        Yaml::Value(scalar) => Ok(match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => json!(value),
            Scalar::Integer(value) => json!(value),
            Scalar::FloatingPoint(value) => json!(value.into_inner()),
            Scalar::String(value) => json!(value),
        }),
        Yaml::Sequence(items) => items.iter().map(to_json).collect(),
        Yaml::Mapping(mapping) => {
            let mut map = Map::new();
            for (key, value) in mapping {
                let key = plain(&to_json(key)?);
                if map.insert(key.clone(), to_json(value)?).is_some() {
                    return Err(bad(format!("the key {key} stands twice in one mapping")));
                }
            }
            Ok(Value::Object(map))
        }
        Yaml::Tagged(tag, inner) => {
            let name = match tag.suffix.as_str() {
                name @ ("Ref" | "Condition") => name.to_owned(),
                other => format!("Fn::{other}"),
            };
            Ok(Value::Object(Map::from_iter([(name, to_json(inner)?)])))
        }
        Yaml::Representation(text, ..) => Ok(json!(text)),
        Yaml::Alias(_) | Yaml::BadValue => Err(bad("a value that cannot be read")),
    }
}
