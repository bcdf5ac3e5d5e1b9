//! `headwater views …` and `headwater parked …` against a running service.

use crate::harness::{
    api::Api,
    poll::eventually,
    service::{Service, headwater, run},
    unique,
};
use serde_json::{Value, json};
use std::process::Output;

fn operate(service: &Service, arguments: &[&str]) -> Output {
    run(headwater(arguments).args(["--nats", &service.nats_url()]))
}

#[track_caller]
fn text(output: &Output, code: i32) -> String {
    let shown = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{shown}");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_rebuilt_rolled_back_dropped_and_verified_while_it_is_read() {
    let service = Service::dev(&[]);
    let http = Api::Http(service.http());
    let shown = text(&operate(&service, &["views", "list"]), 0);
    for view in ["product", "storefront", "order", "sales"] {
        assert!(shown.contains(&format!("{view}  v1 live")), "{shown}");
    }
    // The view may still be reading the sample catalogue: after this, it has read all of it.
    let received = http
        .command(
            "stock",
            "gangnam_apple-1kg",
            "receive",
            json!({"quantity": 1}),
        )
        .await
        .expect(200);
    let position = [
        (
            "Headwater-Min-Position",
            received.header("Headwater-Position"),
        ),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    let before = http
        .list("storefront", json!({"limit": 5}), &position)
        .await
        .expect(200);
    let shown = text(&operate(&service, &["views", "rebuild", "storefront"]), 0);
    assert!(shown.contains("storefront  v1.1 live"), "{shown}");
    assert!(shown.contains("storefront  v1 previous"), "{shown}");
    let after = http
        .list("storefront", json!({"limit": 5}), &[])
        .await
        .expect(200);
    assert_eq!(before.json(), after.json());
    let shown = text(&operate(&service, &["views", "verify"]), 0);
    assert!(
        shown.contains("0 differ") && !shown.contains("storefront  0 "),
        "{shown}"
    );
    let shown = text(&operate(&service, &["views", "rollback", "storefront"]), 0);
    assert!(shown.contains("storefront  v1 live"), "{shown}");
    text(&operate(&service, &["views", "drop", "storefront"]), 0);
    eventually("it is dropped", || async {
        let shown = text(&operate(&service, &["views", "status", "storefront"]), 0);
        (shown.lines().count() == 1).then_some(())
    })
    .await;
    let refused = text(&operate(&service, &["views", "rollback", "storefront"]), 1);
    assert!(refused.contains("no previous"), "{refused}");
    text(&operate(&service, &["views", "status", "nothing"]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_is_shown_on_its_documents_and_settled_from_the_shell() {
    let service = Service::dev(&["--no-seed"]);
    let http = Api::Http(service.http());
    let (sku, well) = (unique("parked"), unique("well"));
    for id in [&sku, &well] {
        let body = json!({"name": "before", "price": 1, "category": "test"});
        http.command("product", id, "register", body)
            .await
            .expect(200);
    }
    let nats = async_nats::connect(service.nats_url()).await.unwrap();
    let subject = format!("evt.product.{sku}");
    nats.publish(subject, "not a commit".into()).await.unwrap();
    nats.flush().await.unwrap();
    eventually("the document says that it is behind", || async {
        let reply = http.document("product", &sku, &[]).await;
        (reply.status == 200 && reply.header("Headwater-Parked") == "true").then_some(())
    })
    .await;
    let over_nats = Api::Nats(service.nats().await)
        .document("product", &sku, &[])
        .await
        .expect(200);
    assert_eq!(over_nats.header("Headwater-Parked"), "true");
    let other = http.document("product", &well, &[]).await.expect(200);
    assert_eq!(other.header("Headwater-Parked"), "");
    let list = http.list("product", json!({}), &[]).await.expect(200);
    assert_eq!(list.header("Headwater-Parked"), "true");
    let tag = http
        .document("product", &sku, &[])
        .await
        .expect(200)
        .header("ETag")
        .to_owned();

    let shown = text(&operate(&service, &["parked", "list", "product"]), 0);
    assert!(shown.contains(&format!("product {sku}")), "{shown}");
    let about = ["product", "product", &sku];
    let shown = text(
        &operate(&service, &[&["parked", "show"][..], &about].concat()),
        0,
    );
    assert!(
        shown.contains("not a commit") && shown.contains(&format!("behind: {sku}")),
        "{shown}"
    );
    let shown = text(
        &operate(&service, &[&["parked", "retry"][..], &about].concat()),
        1,
    );
    assert!(shown.contains("parked still"), "{shown}");
    let json = operate(
        &service,
        &[&["parked", "skip"][..], &about, &["--json"]].concat(),
    );
    let json: Value = serde_json::from_str(text(&json, 0).trim()).unwrap();
    assert_eq!(json["parts"][0]["result"]["still_parked"], 0, "{json}");
    eventually("the document is well again", || async {
        let reply = http.document("product", &sku, &[]).await.expect(200);
        reply.header("Headwater-Parked").is_empty().then_some(())
    })
    .await;
    // Nothing of the document has changed, but nothing is wrong with what the reader has either.
    let again = http
        .document("product", &sku, &[("If-None-Match", &*tag)])
        .await;
    assert!([200, 304].contains(&again.status), "{}", again.status);
    let refused = text(
        &operate(&service, &[&["parked", "skip"][..], &about].concat()),
        1,
    );
    assert!(refused.contains("nothing of this aggregate"), "{refused}");
}
