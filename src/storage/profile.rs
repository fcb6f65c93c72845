//! Named profiles of Amazon's tools: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Keys that stand in these files are used. What takes a service to get them (SSO, roles, programs) is left to Amazon's
//! own tool, which hands the result on through the environment.

use std::collections::HashMap;
use std::path::PathBuf;

use ini::Ini;

use crate::error::{Error, Result};

/// What a profile says of access to S3.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    /// Access key id, secret, and the token of temporary ones.
    pub(super) keys: Option<(String, String, Option<String>)>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

/// Where variables of the environment come from.
type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Variables by which an environment says who it is without a profile.
const CREDENTIALS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// The profile that is asked for by name or by `AWS_PROFILE`, else `default` where there is one. As with Amazon's tools,
/// one that is named goes before the keys of the environment, and these before `AWS_PROFILE`.
pub(super) fn find(named: Option<&str>, environment: &Environment<'_>) -> Result<Profile> {
    let given = |name: &str| environment(name).filter(|value| !value.is_empty());
    let asked = named.map(str::to_owned).or_else(|| given("AWS_PROFILE"));
    let name = asked.clone().unwrap_or_else(|| "default".to_owned());
    let files = [file(&given, "AWS_CONFIG_FILE", "config"), file(&given, "AWS_SHARED_CREDENTIALS_FILE", "credentials")];
    let mut values = HashMap::new();
    let mut found = false;
    for (file, section) in files.iter().flatten().zip([format!("profile {name}"), name.clone()]) {
        let Some(content) = read(file)? else { continue };
        // The default profile is called so in both files; newer tools write the other form as well.
        for section in [&name, &section] {
            if let Some(properties) = content.section(Some(section)) {
                found = true;
                values.extend(properties.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned())));
            }
        }
    }
    if !found {
        return match asked {
            None => Ok(Profile::default()),
            Some(_) => Err(Error::config(format!(
                "the AWS profile {name} is not in {}; `aws configure list-profiles` says which there are",
                files.iter().flatten().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" nor in ")
            ))),
        };
    }
    let mut take = |key: &str| values.remove(key).filter(|value| !value.is_empty());
    let by_environment = named.is_none() && CREDENTIALS.iter().any(|name| given(name).is_some());
    let keys = match (take("aws_access_key_id"), take("aws_secret_access_key"), take("aws_session_token")) {
        _ if by_environment => None,
        (Some(id), Some(secret), token) => Some((id, secret, token)),
        _ => {
            let service = ["sso_session", "sso_start_url", "role_arn", "credential_process"];
            match (service.iter().find(|key| take(key).is_some()), asked.is_some()) {
                (Some(service), true) => {
                    return Err(Error::config(format!(
                        "the AWS profile {name} gets its credentials by {service}, which takes Amazon's own tool; run \
                         `eval \"$(aws configure export-credentials --profile {name} --format env)\"` first"
                    )));
                }
                _ => None,
            }
        }
    };
    Ok(Profile { keys, region: take("region"), endpoint: take("endpoint_url") })
}

fn file(given: &Environment<'_>, variable: &str, name: &str) -> Option<PathBuf> {
    given(variable).map(PathBuf::from).or_else(|| Some(PathBuf::from(given("HOME")?).join(".aws").join(name)))
}

/// The sections of a file; none where it is not there.
fn read(file: &std::path::Path) -> Result<Option<Ini>> {
    match std::fs::read_to_string(file) {
        // A message about what is wrong with it would show secrets, so it says the line only.
        Ok(text) => Ini::load_from_str_noescape(&text).map(Some).map_err(|error| {
            Error::config(format!("{}:{}: this is no file of AWS profiles", file.display(), error.line))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::config(format!("{} cannot be read: {error}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new(config: &str, credentials: &str) -> Self {
            let home = tempfile::tempdir().unwrap();
            std::fs::create_dir(home.path().join(".aws")).unwrap();
            std::fs::write(home.path().join(".aws/config"), config).unwrap();
            std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
            Self(home)
        }

        fn find(&self, named: Option<&str>, variables: &[(&str, &str)]) -> Result<Profile> {
            find(named, &|name| {
                let home = (name == "HOME").then(|| self.0.path().display().to_string());
                home.or_else(|| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
            })
        }
    }

    fn home() -> Home {
        Home::new(
            "[default]\nregion = eu-north-1\n\n[profile work]\nregion=eu-west-3\nendpoint_url = http://minio:9000\ns3 =\n  \
             max_concurrent_requests = 20\n[profile login]\nsso_session = corporate\nregion = us-west-2\n",
            "# by hand\n[default]\naws_access_key_id = ID0\naws_secret_access_key = a/b+c\\d==\n[work]\naws_access_key_id = \
             ID1\naws_secret_access_key = S1\naws_session_token = T1\n",
        )
    }

    fn id(profile: &Profile) -> Option<&str> {
        profile.keys.as_ref().map(|(id, _, _)| id.as_str())
    }

    #[test]
    fn profiles_come_from_both_files() {
        let home = home();
        let default = home.find(None, &[]).unwrap();
        assert_eq!(default.keys, Some(("ID0".to_owned(), "a/b+c\\d==".to_owned(), None)));
        assert_eq!(default.region.as_deref(), Some("eu-north-1"));
        let work = home.find(Some("work"), &[("AWS_ACCESS_KEY_ID", "other")]).unwrap();
        assert_eq!(work.keys, Some(("ID1".to_owned(), "S1".to_owned(), Some("T1".to_owned()))));
        assert_eq!(work.endpoint.as_deref(), Some("http://minio:9000"));
        assert_eq!(id(&home.find(None, &[("AWS_PROFILE", "work")]).unwrap()), Some("ID1"));
    }

    #[test]
    fn the_environment_goes_before_what_was_not_named() {
        let home = home();
        for variables in [vec![("AWS_ACCESS_KEY_ID", "E")], vec![("AWS_ACCESS_KEY_ID", "E"), ("AWS_PROFILE", "work")]] {
            let profile = home.find(None, &variables).unwrap();
            assert_eq!(profile.keys, None);
            assert!(profile.region.is_some());
        }
        assert_eq!(home.find(None, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://x")]).unwrap().keys, None);
    }

    #[test]
    fn what_cannot_be_used_says_what_to_do() {
        let home = home();
        let error = home.find(Some("nobody"), &[]).err().unwrap().to_string();
        assert!(
            error.contains("nobody") && error.contains("credentials") && error.contains("list-profiles"),
            "{error}"
        );
        let error = home.find(None, &[("AWS_PROFILE", "login")]).err().unwrap().to_string();
        assert!(error.contains("sso_session") && error.contains("export-credentials --profile login"), "{error}");
        let broken = Home::new("", "[default]\naws_secret_access_key = S1\nhush-hush\n[x\n");
        let error = broken.find(None, &[]).err().unwrap().to_string();
        assert!(error.contains("credentials:") && !error.contains("hush"), "{error}");
        // Nobody has to have such files.
        let none = Home(tempfile::tempdir().unwrap());
        assert!(none.find(None, &[]).unwrap() == Profile::default());
    }
}
