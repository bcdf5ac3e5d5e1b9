//! Text on both surfaces: what reads the same is found, one address is one member's, and what nobody sees
//! gets in nowhere. And ids, which are part of paths and of each other.

use crate::{
    harness::{
        api::{Api, Reply},
        service, unique,
    },
    live::Live,
};
use serde_json::{Value, json};

/// `사과` letter by letter, as some systems type it.
const DECOMPOSED: &str = "\u{1109}\u{1161}\u{1100}\u{116a}";

async fn register(api: &Api, sku: &str, name: &str, category: &str) -> String {
    let body = json!({"name": name, "price": 100, "category": category});
    let reply = api.command("product", sku, "register", body).await;
    reply.expect(200).header("Headwater-Position").to_owned()
}

async fn found(api: &Api, parameters: Value, position: &str) -> Vec<String> {
    let headers = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "20000"),
    ];
    let list = api.list("product", parameters, &headers).await.expect(200);
    let list = list.json();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_product_is_found_however_its_name_is_written() {
    for api in service::both().await {
        let [composed, decomposed, signs] = ["c", "d", "s"].map(unique);
        let category = unique("과일");
        register(&api, &composed, "햇사과 1kg", &category).await;
        register(
            &api,
            &decomposed,
            &format!("풋{DECOMPOSED} ２㎏"),
            &category,
        )
        .await;
        let position = register(&api, &signs, "🍎 선물!!", &category).await;
        let search = async |q: &str| {
            let parameters = json!({"q": q, "category": category, "sort": "name"});
            found(&api, parameters, &position).await
        };
        for q in ["사과", DECOMPOSED] {
            assert_eq!(search(q).await, [&*decomposed, &composed], "{q}");
        }
        assert_eq!(search("2KG").await, [&*decomposed]);
        for q in ["🍎", "!!", "물!", "🍎 !"] {
            assert_eq!(search(q).await, [&*signs], "{q}");
        }
        assert!(search("🍏").await.is_empty());
        // As it was given.
        let read = api.document("product", &decomposed, &[]).await.expect(200);
        let name = &read.json()["document"]["name"];
        assert_eq!(name, &format!("풋{DECOMPOSED} ２㎏"));
    }
}

#[tokio::test]
async fn a_filter_compares_what_reads_the_same_also_in_a_live_list() {
    let apis = service::both().await;
    for api in &apis {
        let [first, second] = ["f", "s"].map(unique);
        let own = unique("c");
        let [composed, decomposed] = ["사과", DECOMPOSED].map(|name| format!("{name}{own}"));
        register(api, &first, "a", &composed).await;
        let position = register(api, &second, "b", &decomposed).await;
        for category in [&composed, &decomposed] {
            let parameters = json!({"category": category, "sort": "name"});
            assert_eq!(found(api, parameters, &position).await, [&*first, &second]);
        }
        let Api::Http(http) = api else { continue };
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("category", &decomposed)
            .finish();
        let path = format!("/views/product/live?{query}");
        let headers = [
            ("Headwater-Min-Position", &*position),
            ("Headwater-Max-Wait-Ms", "20000"),
        ];
        let mut live = Live::open(http, &path, &headers).await;
        let mut ids = Vec::new();
        for _ in 0..2 {
            ids.push(live.next().await.data["id"].as_str().unwrap().to_owned());
        }
        ids.sort();
        assert_eq!(ids, [&*first, &second]);
        let third = unique("t");
        register(api, &third, "c", &composed).await;
        assert_eq!(live.next().await.data["id"], third);
    }
}

#[tokio::test]
async fn one_address_is_one_members() {
    for api in service::both().await {
        let own = unique("m");
        for (mailboxes, hosts) in [
            (["jos\u{e9}", "jose\u{301}", "JOSÉ"], ["example.com"; 3]),
            (["ΟΔΟΣ", "οδος", "οδοσ"], ["example.com"; 3]),
            (["straße", "STRASSE", "Strasse"], ["example.com"; 3]),
            (
                ["idn"; 3],
                [
                    "b\u{fc}cher.example",
                    "BU\u{308}CHER.example",
                    "xn--bcher-kva.example",
                ],
            ),
        ] {
            let mut replies: Vec<Reply> = Vec::new();
            for (mailbox, host) in mailboxes.iter().zip(hosts) {
                let email = format!("{mailbox}{own}@{host}");
                let body = json!({"name": "김하늘", "email": email});
                let id = unique("member");
                replies.push(api.command("member", &id, "register", body).await);
            }
            let (first, others) = replies.split_first().unwrap();
            assert_eq!(first.status, 200, "{mailboxes:?}");
            for other in others {
                other.problem(409, "claim_taken");
            }
        }
    }
}

#[tokio::test]
async fn what_nobody_sees_is_refused_by_the_name_of_its_field() {
    for api in service::both().await {
        let (id, sku) = (unique("m"), unique("sku"));
        let email = format!("{id}@example.com");
        for hidden in [
            "사\u{200b}과",
            "\u{202e}과사",
            "사과\u{e0041}",
            "\u{2066}사과\u{2069}",
            "사\u{ad}과",
            "\u{3164}",
            "사\u{378}과",
            "사\u{fe0f}과",
            "사\0과",
        ] {
            for (aggregate, id, command, body, code) in [
                (
                    "product",
                    &sku,
                    "register",
                    json!({"name": hidden, "price": 1, "category": "a"}),
                    "invalid_name",
                ),
                (
                    "product",
                    &sku,
                    "register",
                    json!({"name": "a", "price": 1, "category": hidden}),
                    "invalid_category",
                ),
                (
                    "display",
                    &sku,
                    "open",
                    json!({"branch": "b", "title": hidden}),
                    "invalid_title",
                ),
                (
                    "member",
                    &id,
                    "register",
                    json!({"name": hidden, "email": email}),
                    "invalid_name",
                ),
                (
                    "member",
                    &id,
                    "register",
                    json!({"name": "a", "email": format!("{hidden}@example.com")}),
                    "invalid_email",
                ),
                (
                    "member",
                    &id,
                    "register",
                    json!({"name": "a", "email": email, "address": hidden}),
                    "invalid_address",
                ),
            ] {
                let reply = api.command(aggregate, id, command, body).await;
                reply.problem(409, code);
            }
        }
        // What emoji and scripts need stays.
        let body = json!({"name": "👩\u{200d}🍳 نمی\u{200c}خواهم ❤\u{fe0f}", "email": email});
        let reply = api.command("member", &id, "register", body).await;
        reply.expect(200);
    }
}

#[tokio::test]
async fn live_is_no_id_anywhere() {
    for api in service::both().await {
        let product = json!({"name": "a", "price": 1, "category": "a"});
        let reply = api.command("product", "live", "register", product).await;
        assert_eq!(reply.problem(400, "malformed")["field"], "id");
        if let Api::Http(http) = &api {
            // Where the id would be is the live list, however it is written.
            let reply = http.get("/views/product/live/live", &[]).await;
            assert_eq!(reply.problem(400, "malformed")["field"], "id");
        } else {
            let reply = api.document("product", "live", &[]).await;
            assert_eq!(reply.problem(400, "malformed")["field"], "id");
        }
        let section = unique("section");
        let open = json!({"branch": "b", "title": "a"});
        api.command("display", &section, "open", open)
            .await
            .expect(200);
        let place = json!({"sku": "live", "rank": 1});
        let reply = api.command("display", &section, "place", place).await;
        reply.problem(409, "invalid_sku");
    }
}

#[tokio::test]
async fn two_sections_never_share_a_document() {
    for api in service::both().await {
        let own = unique("s");
        let (section, joined) = (own.clone(), format!("{own}_b"));
        let open = || json!({"branch": "b", "title": "a"});
        api.command("display", &section, "open", open())
            .await
            .expect(200);
        let reply = api.command("display", &joined, "open", open()).await;
        reply.problem(409, "invalid_id");
        // A SKU may have the sign: it comes last.
        let place = json!({"sku": "b_c", "rank": 1});
        let placed = api.command("display", &section, "place", place).await;
        let position = placed.expect(200).header("Headwater-Position").to_owned();
        let headers = [
            ("Headwater-Min-Position", &*position),
            ("Headwater-Max-Wait-Ms", "20000"),
        ];
        let id = format!("{section}_b_c");
        let shown = api.document("storefront", &id, &headers).await.expect(200);
        assert_eq!(shown.json()["document"]["section"], section);
    }
}
