//! Tokens of every kind against keys in a file: what is taken, and all that is not.

use super::*;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};
use std::sync::LazyLock;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "mart";
const SECRET: &[u8] = b"a secret of the tests, long enough";

/// A key that signs, and its name.
struct Signer {
    algorithm: Algorithm,
    id: &'static str,
    key: EncodingKey,
}

/// One signer of each kind of key, and the access that knows them all.
struct World {
    signers: Vec<Signer>,
    access: Access,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let pem = |key: KeyPair| key.serialize_pem();
    let ec = |text: String| EncodingKey::from_ec_pem(text.as_bytes()).unwrap();
    let rsa = include_bytes!("../../tests/keys/rsa.pem");
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let point = URL_SAFE_NO_PAD.encode(rcgen::PublicKeyData::der_bytes(&edwards));
    let ed = pem(edwards);
    let signer = |algorithm, id, key| Signer { algorithm, id, key };
    let signers = vec![
        signer(
            Algorithm::RS256,
            "rsa",
            EncodingKey::from_rsa_pem(rsa).unwrap(),
        ),
        signer(
            Algorithm::ES256,
            "p256",
            ec(pem(KeyPair::generate().unwrap())),
        ),
        signer(
            Algorithm::ES384,
            "p384",
            ec(pem(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap())),
        ),
        signer(
            Algorithm::EdDSA,
            "ed",
            EncodingKey::from_ed_pem(ed.as_bytes()).unwrap(),
        ),
        signer(Algorithm::HS256, "secret", EncodingKey::from_secret(SECRET)),
    ];
    let keys = signers.iter().map(|signer| match signer.id {
        "ed" => json!({"kty": "OKP", "crv": "Ed25519", "x": point, "kid": "ed"}),
        _ => jwk(signer),
    });
    let keys: Vec<Value> = keys.collect();
    let access = guarded(json!({ "keys": keys }));
    World { signers, access }
});

fn jwk(signer: &Signer) -> Value {
    let jwk = Jwk::from_encoding_key(&signer.key, signer.algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = signer.id.into();
    // One RSA key is for several algorithms.
    jwk.as_object_mut().unwrap().remove("alg");
    jwk
}

fn guarded(set: Value) -> Access {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set.to_string()).unwrap();
    Access::guarded(AccessOptions {
        keys: KeySource::File(file),
        issuer: Some(ISSUER.to_owned()),
        audience: Some(AUDIENCE.to_owned()),
        leeway: Duration::from_secs(30),
        anonymous: vec!["qry:product".to_owned()],
    })
    .unwrap()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "m-1", "aud": AUDIENCE, "exp": token::now() + 600, "scope": "cmd:* qry:*"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn signed(key: &EncodingKey, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A token of the named signer.
fn token(id: &str, claims: &Value) -> String {
    let signer = WORLD.signers.iter().find(|signer| signer.id == id).unwrap();
    let algorithm = format!("{:?}", signer.algorithm);
    let header = json!({"typ": "JWT", "alg": algorithm, "kid": id});
    signed(&signer.key, signer.algorithm, &header, claims)
}

struct Given<'a>(&'a [(&'a str, String)]);

impl RequestHeaders for Given<'_> {
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (*name, value.as_bytes()))
    }
}

async fn ask(access: &Access, token: &str) -> Result<Identified, Problem> {
    let headers = [("authorization", format!("Bearer {token}"))];
    access.identified(&Given(&headers), None).await
}

#[track_caller]
fn is_refused(answered: &Result<Identified, Problem>, what: &str) {
    let problem = answered.as_ref().expect_err(what);
    assert_eq!(
        (problem.status, &*problem.code),
        (401, "unauthenticated"),
        "{what}: {problem}"
    );
    let challenge = problem.challenge().unwrap();
    assert!(challenge.contains("invalid_token"), "{what}: {challenge}");
}

#[actix::test]
async fn a_token_of_each_kind_of_key_is_taken() {
    for signer in &WORLD.signers {
        let known = ask(&WORLD.access, &token(signer.id, &claims()))
            .await
            .unwrap();
        assert_eq!(known.caller.subject(), Some("m-1"), "{}", signer.id);
        assert!(known.caller.has("cmd:*") && !known.caller.is_unrestricted());
    }
    // One RSA key signs by PSS too.
    let rsa = &WORLD.signers[0];
    for algorithm in [Algorithm::PS256, Algorithm::RS512] {
        let header = json!({"alg": format!("{algorithm:?}"), "kid": "rsa"});
        let token = signed(&rsa.key, algorithm, &header, &claims());
        assert!(ask(&WORLD.access, &token).await.is_ok(), "{algorithm:?}");
    }
    // One that does not name its key is tried with those of its algorithm.
    let token = signed(
        &rsa.key,
        Algorithm::RS256,
        &json!({"alg": "RS256"}),
        &claims(),
    );
    assert!(ask(&WORLD.access, &token).await.is_ok());
}

#[actix::test]
async fn what_is_not_signed_by_a_key_of_the_issuer_is_refused() {
    let rsa = &WORLD.signers[0];
    let good = token("rsa", &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let forged = |header: Value| {
        let message = format!("{}.{}", encoded(&header), encoded(&claims()));
        (format!("{message}."), format!("{message}.{signature}"))
    };
    let mut tokens = vec![
        format!("{message}."),
        message.to_owned(),
        format!("{good}.{signature}"),
        format!("{good}="),
        format!("{message}.{}A", &signature[..signature.len() - 2]),
        ".".to_owned(),
        "..".to_owned(),
        "....".to_owned(),
        "a.b.c".to_owned(),
    ];
    for none in [
        "none", "None", "NONE", "nOnE", "", "RS257", "ES512", "HS256 ",
    ] {
        let (bare, signed) = forged(json!({"alg": none, "kid": "rsa"}));
        tokens.extend([bare, signed]);
    }
    for header in [
        json!({"kid": "rsa"}),
        json!({"alg": ["RS256"], "kid": "rsa"}),
        json!({"alg": null}),
        json!({"alg": "RS256", "kid": 1}),
        json!([]),
    ] {
        tokens.push(forged(header).1);
    }
    // The payload of another.
    let (header, _) = message.split_once('.').unwrap();
    let other = encoded(&with("sub", "m-2".into()));
    tokens.push(format!("{header}.{other}.{signature}"));
    // What everybody knows of a key is no secret of it (RFC 8725, 2.1).
    let public = jwk(rsa);
    let modulus = URL_SAFE_NO_PAD
        .decode(public["n"].as_str().unwrap())
        .unwrap();
    for secret in [
        modulus,
        public.to_string().into_bytes(),
        include_bytes!("../../tests/keys/rsa.pem").to_vec(),
        Vec::new(),
    ] {
        for kid in ["rsa", "p256", "ed"] {
            let key = EncodingKey::from_secret(&secret);
            let header = json!({"alg": "HS256", "kid": kid});
            tokens.push(signed(&key, Algorithm::HS256, &header, &claims()));
        }
    }
    // A key of one kind under the name of another, and one that the token brings itself.
    for kid in ["p256", "p384", "ed", "secret", "unknown", "", "RSA"] {
        let header = json!({"alg": "RS256", "kid": kid});
        tokens.push(signed(&rsa.key, Algorithm::RS256, &header, &claims()));
    }
    let own = KeyPair::generate().unwrap().serialize_pem();
    let own = EncodingKey::from_ec_pem(own.as_bytes()).unwrap();
    let brought = serde_json::to_value(Jwk::from_encoding_key(&own, Algorithm::ES256).unwrap());
    for header in [
        json!({"alg": "ES256", "kid": "p256"}),
        json!({"alg": "ES256"}),
        json!({"alg": "ES256", "jwk": brought.unwrap()}),
        json!({"alg": "ES256", "kid": "p256", "jku": "https://evil.example/"}),
    ] {
        tokens.push(signed(&own, Algorithm::ES256, &header, &claims()));
    }
    // What has to be understood is not.
    let header = json!({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false});
    tokens.push(signed(&rsa.key, Algorithm::RS256, &header, &claims()));
    let mut long = claims();
    long["padding"] = "a".repeat(LONGEST_TOKEN).into();
    tokens.push(token("rsa", &long));
    for token in tokens {
        is_refused(&ask(&WORLD.access, &token).await, &token);
    }
}

#[actix::test]
async fn what_is_of_another_issuer_for_another_or_of_another_time_is_refused() {
    let now = token::now();
    for claims in [
        with("iss", "https://issuer.example/".into()),
        with("iss", json!([ISSUER])),
        without("iss"),
        with("aud", "shop".into()),
        with("aud", json!(["shop", "Mart"])),
        with("aud", json!([])),
        with("aud", json!({ AUDIENCE: 1 })),
        without("aud"),
        without("exp"),
        with("exp", (now - 30).into()),
        with("exp", 0.into()),
        with("exp", (now + 600).to_string().into()),
        with("exp", Value::Null),
        with("nbf", (now + 60).into()),
        with("nbf", "0".into()),
        with("sub", "".into()),
        with("sub", "a\nb".into()),
        with("sub", "a".repeat(257).into()),
        with("sub", 7.into()),
        with("scope", json!({"cmd": "*"})),
        with("scope", json!(["qry:*", 7])),
        with("scope", 7.into()),
        with("scp", json!([null])),
        with("scope", "a ".repeat(257).into()),
        json!([]),
        json!("claims"),
    ] {
        let token = token("p256", &claims);
        is_refused(&ask(&WORLD.access, &token).await, &claims.to_string());
    }
    for claims in [
        with("aud", json!(["shop", AUDIENCE])),
        with("exp", (now - 20).into()),
        with("exp", json!(now as f64 + 0.5)),
        with("nbf", (now + 20).into()),
        without("sub"),
    ] {
        let token = token("p256", &claims);
        assert!(ask(&WORLD.access, &token).await.is_ok(), "{claims}");
    }
    // A field that is there twice means two things.
    let signer = WORLD
        .signers
        .iter()
        .find(|signer| signer.id == "p256")
        .unwrap();
    let twice = claims().to_string().replacen('{', r#"{"sub":"m-2","#, 1);
    let header = encoded(&json!({"alg": "ES256", "kid": "p256"}));
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(twice));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, signer.algorithm);
    let token = format!("{message}.{}", signature.unwrap());
    is_refused(&ask(&WORLD.access, &token).await, "twice");
}

#[actix::test]
async fn scopes_are_read_in_each_form_that_issuers_have() {
    let mut none = without("scope");
    let forms = [
        (with("scope", "a  b\tc".into()), vec!["a", "b", "c"]),
        (with("scope", json!(["a", "b c"])), vec!["a", "b", "c"]),
        (with("scope", "".into()), vec![]),
        (none.clone(), vec![]),
        (with("scp", json!(["x"])), vec!["cmd:*", "qry:*", "x"]),
    ];
    none["scp"] = "a b".into();
    for (claims, scopes) in forms.into_iter().chain([(none, vec!["a", "b"])]) {
        let known = ask(&WORLD.access, &token("ed", &claims)).await.unwrap();
        assert_eq!(
            known.caller.scopes().collect::<Vec<_>>(),
            scopes,
            "{claims}"
        );
    }
}

#[actix::test]
async fn the_header_is_read_in_any_case_and_once() {
    let good = token("ed", &claims());
    let known = async |given: &[(&str, String)]| WORLD.access.identified(&Given(given), None).await;
    for name in ["Authorization", "authorization", "AUTHORIZATION"] {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let given = [(name, format!("{scheme} {good}"))];
            assert!(known(&given).await.is_ok(), "{name} {scheme}");
        }
        let twice = [
            (name, format!("Bearer {good}")),
            ("authorization", format!("Bearer {good}")),
        ];
        let problem = known(&twice).await.unwrap_err();
        assert_eq!(
            (problem.status, problem.field.as_deref()),
            (400, Some(AUTHORIZATION))
        );
    }
    for wrong in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        good.clone(),
        format!("Basic {good}"),
        format!("Bearer {good} {good}"),
        format!("Bearer {good}, Bearer {good}"),
        "Basic dTpw".to_owned(),
    ] {
        is_refused(&known(&[("authorization", wrong.clone())]).await, &wrong);
    }
    let nobody = known(&[]).await.unwrap();
    assert_eq!(nobody.caller, WORLD.access.anonymous());
}

#[actix::test]
async fn who_may_not_is_told_what_it_takes_and_who_is_nobody_to_say_who_they_are() {
    let action = Action::Command {
        aggregate: "order",
        command: "place",
    };
    let known = ask(&WORLD.access, &token("ed", &with("scope", "qry:*".into())))
        .await
        .unwrap();
    let problem = known.may(action).unwrap_err();
    assert_eq!(
        (problem.status, problem.scope.as_deref()),
        (403, Some("cmd:order:place"))
    );
    let challenge = problem.challenge().unwrap();
    assert!(challenge.contains(r#"error="insufficient_scope", scope="cmd:order:place""#));

    let nobody = || WORLD.access.identified(&Given(&[]), None);
    assert!(
        nobody()
            .await
            .unwrap()
            .may(Action::Query { view: "product" })
            .is_ok()
    );
    let problem = nobody().await.unwrap().may(action).unwrap_err();
    assert_eq!((problem.status, problem.scope), (401, None));

    let open = Access::open().identified(&Given(&[]), None).await.unwrap();
    assert!(open.may(action).unwrap().caller.is_unrestricted());
    // Where nobody is asked, nothing that is said counts.
    let given = [("authorization", "nonsense".to_owned())];
    assert!(
        Access::open()
            .identified(&Given(&given), None)
            .await
            .is_ok()
    );
}

#[test]
fn a_token_is_remembered_until_it_ends_and_for_its_keys_alone() {
    let remembered = Remembered::new();
    let identified = Identified::told(Caller::new(Some("m-1"), ["qry:*"]), Some(100));
    remembered.put("a.b.c", 7, &identified);
    assert!(remembered.find("a.b.c", 7, 100).is_some());
    assert!(remembered.find("a.b.c", 7, 101).is_none());
    assert!(remembered.find("a.b.c", 8, 100).is_none());
    assert!(remembered.find("a.b.d", 7, 100).is_none());
}

#[test]
fn a_token_counts_to_the_last_second_of_its_leeway() {
    let leeway = Duration::from_secs(30);
    for exp in [json!(1_000), json!(1_000.5)] {
        let claims = Claims::read(&encoded(&with("exp", exp.clone()))).unwrap();
        let counts = |now| claims.check(None, None, leeway, now).is_ok();
        let until = claims.identified(leeway).unwrap().until.unwrap();
        assert!(counts(until) && !counts(until + 1), "{exp}: {until}");
    }
}
