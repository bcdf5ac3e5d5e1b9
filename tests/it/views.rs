//! The mart's views, read over HTTP and over NATS: composed, fresh when asked, and listed whole. One
//! suite for documents in the process, here, and on a shared server, in [`super::shared_store`].

use crate::harness::{
    api::{Api, Reply},
    service::{self, Service},
    unique,
};
use serde_json::{Value, json};

/// Gives a command that must be accepted; returns its position token.
async fn give(api: &Api, aggregate: &str, id: &str, command: &str, body: Value) -> String {
    let reply = api.command(aggregate, id, command, body).await.expect(200);
    reply.header("Headwater-Position").to_owned()
}

/// Reads a document that must have applied this position.
async fn at(api: &Api, view: &str, id: &str, position: &str) -> Value {
    let headers = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "20000"),
    ];
    let reply = api.document(view, id, &headers).await.expect(200);
    reply.json()["document"].clone()
}

/// Waits until a list of the view would have this position.
async fn at_position(api: &Api, view: &str, position: &str) {
    let headers = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "20000"),
    ];
    let parameters = json!({"limit": 1});
    api.list(view, parameters, &headers).await.expect(200);
}

async fn product(api: &Api, name: &str, price: i64) -> String {
    let sku = unique("sku");
    let body = json!({"name": name, "price": price, "category": "test"});
    give(api, "product", &sku, "register", body).await;
    sku
}

async fn member(api: &Api, name: &str) -> String {
    let id = unique("member");
    let body = json!({"name": name, "email": format!("{id}@example.com")});
    give(api, "member", &id, "register", body).await;
    id
}

async fn order(api: &Api, member: &str, branch: &str, sku: &str, price: i64) -> (String, String) {
    let id = unique("order");
    let lines = json!([{"sku": sku, "quantity": 2, "unit_price": price}]);
    let body = json!({"member": member, "branch": branch, "lines": lines});
    let position = give(api, "order", &id, "place", body).await;
    (id, position)
}

fn ids(list: &Reply) -> Vec<String> {
    let list = list.json();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_order_shows_its_members_and_its_products_names_and_follows_them() {
    for api in service::both().await {
        composed_order(&api).await;
    }
}

async fn composed_order(api: &Api) {
    let sku = product(api, "딸기", 5_000).await;
    let member = member(api, "홍길동").await;
    let (id, position) = order(api, &member, "test-branch", &sku, 5_000).await;
    let document = at(api, "order", &id, &position).await;
    assert_eq!(document["member"], json!({"id": member, "name": "홍길동"}));
    assert_eq!(document["lines"][0]["name"], "딸기");
    assert_eq!(document["total"], 10_000);

    let position = give(api, "product", &sku, "rename", json!({"name": "설향 딸기"})).await;
    let document = at(api, "order", &id, &position).await;
    assert_eq!(document["lines"][0]["name"], "설향 딸기");

    let position = give(api, "member", &member, "withdraw", json!({})).await;
    let document = at(api, "order", &id, &position).await;
    assert!(!document.to_string().contains("홍길동"), "{document}");
    assert_eq!(document["status"], "placed");
}

#[tokio::test]
async fn a_storefront_shows_display_product_and_stock_in_any_order_of_arrival() {
    for api in service::both().await {
        composed_storefront(&api).await;
    }
}

async fn composed_storefront(api: &Api) {
    let (section, sku) = (unique("section"), unique("sku"));
    let branch = unique("b").replace('_', "-");
    let id = format!("{section}_{sku}");
    let stock = format!("{branch}_{sku}");
    // The stock is there before the product, and the section before both.
    let body = json!({"branch": branch, "title": "오늘"});
    give(api, "display", &section, "open", body).await;
    let placed = give(
        api,
        "display",
        &section,
        "place",
        json!({"sku": sku, "rank": 1}),
    )
    .await;
    let document = at(api, "storefront", &id, &placed).await;
    assert_eq!(
        (&document["name"], &document["sold_out"]),
        (&Value::Null, &json!(true))
    );

    let received = give(api, "stock", &stock, "receive", json!({"quantity": 7})).await;
    let document = at(api, "storefront", &id, &received).await;
    assert_eq!(
        (&document["available"], &document["sold_out"]),
        (&json!(7), &json!(false))
    );

    let body = json!({"name": "배", "price": 3_000, "category": "fruit"});
    let registered = give(api, "product", &sku, "register", body).await;
    let document = at(api, "storefront", &id, &registered).await;
    assert_eq!(
        (&document["name"], &document["price"]),
        (&json!("배"), &json!(3_000))
    );

    let parameters = json!({"section": section, "sold_out": false});
    assert_eq!(
        ids(&api.list("storefront", parameters, &[]).await.expect(200)),
        [id.as_str()]
    );
    let removed = give(api, "display", &section, "remove", json!({"sku": sku})).await;
    let headers = [("Headwater-Min-Position", &*removed)];
    api.document("storefront", &id, &headers)
        .await
        .problem(404, "not_found");
}

/// All of it, for a service whose surfaces these are.
pub(crate) async fn suite(http: &Api, nats: &Api) {
    for api in [http, nats] {
        composed_order(api).await;
        composed_storefront(api).await;
        sales_of_a_branch(api).await;
        let category = unique("category");
        let mut last = String::new();
        for number in 0..23 {
            let name = ["사과", "배", "Apple"][number % 3];
            let body = json!({"name": name, "price": number % 5 + 1, "category": category});
            last = give(api, "product", &unique("sku"), "register", body).await;
        }
        at_position(api, "product", &last).await;
        pages(api, &category, 5).await;
        counted(api).await;
        refusals(api).await;
    }
    same_bytes(http, nats).await;
}

/// Takes an order through to its payment; returns the position.
async fn pay(api: &Api, id: &str, amount: i64) -> String {
    give(api, "order", id, "confirm", json!({})).await;
    let body = json!({"payment": unique("payment"), "amount": amount});
    give(api, "order", id, "pay", body).await
}

async fn sales(api: &Api, branch: &str, position: &str) -> Vec<Value> {
    let headers = [("Headwater-Min-Position", position)];
    let list = api
        .list("sales", json!({"branch": branch}), &headers)
        .await
        .expect(200);
    let list = list.json();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["document"].clone()).collect()
}

#[tokio::test]
async fn sales_count_what_is_paid_and_take_back_what_is_cancelled() {
    for api in service::both().await {
        sales_of_a_branch(&api).await;
    }
}

async fn sales_of_a_branch(api: &Api) {
    let branch = unique("sales");
    let mut last = String::new();
    for number in 1..=3 {
        let (id, _) = order(api, "nobody", &branch, "sku", number * 1_000).await;
        last = pay(api, &id, number * 2_000).await;
        if number == 2 {
            let body = json!({"reason": "changed my mind"});
            last = give(api, "order", &id, "cancel", body).await;
        }
    }
    let days = sales(api, &branch, &last).await;
    let sum = |field: &str| -> i64 { days.iter().map(|day| day[field].as_i64().unwrap()).sum() };
    assert_eq!(
        (sum("orders"), sum("units"), sum("revenue")),
        (2, 4, 8_000),
        "{days:?}"
    );
}

#[tokio::test]
async fn both_surfaces_answer_with_the_same_bytes_and_tags() {
    let [http, nats] = service::both().await;
    same_bytes(&http, &nats).await;
}

async fn same_bytes(http: &Api, nats: &Api) {
    for parameters in [
        json!({}),
        json!({"sort": "-price", "limit": 3, "category": "fruit"}),
        json!({"q": "사과"}),
        json!({"price_min": 1_000, "price_max": 5_000, "status": "listed", "sort": "name"}),
    ] {
        // Other tests write meanwhile, and a page can change between the two.
        let mut pairs = Vec::new();
        for _ in 0..10 {
            let left = http
                .list("product", parameters.clone(), &[])
                .await
                .expect(200);
            let right = nats
                .list("product", parameters.clone(), &[])
                .await
                .expect(200);
            let tags = (
                left.header("ETag") == right.header("ETag"),
                left.body == right.body,
            );
            pairs.push(tags);
            if tags == (true, true) {
                break;
            }
        }
        assert_eq!(pairs.last(), Some(&(true, true)), "{parameters}");
    }
    let sku = product(http, "같은 것", 1_000).await;
    let read = async |api: &Api| api.document("product", &sku, &[]).await;
    let left = crate::harness::poll::eventually("the product is there", async || {
        Some(read(http).await).filter(|reply| reply.status == 200)
    })
    .await;
    let right = read(nats).await.expect(200);
    assert_eq!(
        (left.header("ETag"), &left.body),
        (right.header("ETag"), &right.body)
    );
}

#[tokio::test]
async fn the_pages_of_the_catalogue_are_the_whole_of_it_in_order() {
    for api in service::both().await {
        pages(&api, "fruit", 47).await;
    }
}

async fn pages(api: &Api, category: &str, limit: u64) {
    for sort in ["price", "-price", "name", "-name"] {
        let (mut seen, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let mut parameters = json!({"sort": sort, "limit": limit, "category": category});
            if cursor != Value::Null {
                parameters["cursor"] = cursor;
            }
            let page = api.list("product", parameters, &[]).await.expect(200);
            let page = page.json();
            let items = page["items"].as_array().unwrap().iter();
            let field = sort.trim_start_matches('-');
            seen.extend(items.map(|item| {
                let key = &item["document"][field];
                let text = key.as_str().unwrap_or_default().to_owned();
                (
                    key.as_i64().unwrap_or_default(),
                    text,
                    item["id"].to_string(),
                )
            }));
            cursor = page["next"].clone();
            if cursor == Value::Null {
                break;
            }
        }
        let mut expected = seen.clone();
        expected.sort();
        expected.dedup_by(|a, b| a.2 == b.2);
        if sort.starts_with('-') {
            expected.reverse();
        }
        assert!(seen.len() > 10, "{sort}");
        assert_eq!(seen, expected, "{sort}");
    }
}

#[tokio::test]
async fn what_a_view_does_not_offer_is_refused_alike_on_both_surfaces() {
    for api in service::both().await {
        refusals(&api).await;
    }
}

#[tokio::test]
async fn a_list_is_counted_when_that_is_asked_for() {
    for api in service::both().await {
        counted(&api).await;
    }
}

async fn counted(api: &Api) {
    let category = unique("counted");
    let mut last = String::new();
    for price in 1..=5 {
        let body = json!({"name": "a", "price": price, "category": category});
        last = give(api, "product", &unique("sku"), "register", body).await;
    }
    at_position(api, "product", &last).await;
    let asked = async |more: Value| {
        let mut parameters = json!({"category": category, "limit": 1});
        let more = more.as_object().unwrap().clone();
        parameters.as_object_mut().unwrap().extend(more);
        api.list("product", parameters, &[])
            .await
            .expect(200)
            .json()
    };
    assert_eq!(asked(json!({})).await.get("count"), None);
    let counted = asked(json!({"count": true})).await;
    assert_eq!(counted["count"], 5);
    assert_eq!(counted["items"].as_array().unwrap().len(), 1);
    let range = json!({"count": true, "price_min": 2, "price_max": 3, "sort": "-price"});
    let counted = asked(range).await;
    assert_eq!(
        (&counted["count"], &counted["items"][0]["document"]["price"]),
        (&json!(2), &json!(3))
    );
}

#[tokio::test]
async fn facets_are_told_under_all_other_filters() {
    for api in service::both().await {
        faceted(&api).await;
    }
}

async fn faceted(api: &Api) {
    let category = unique("faceted");
    let mut last = String::new();
    for price in 1..=5 {
        let (sku, body) = (
            unique("sku"),
            json!({"name": "a", "price": price, "category": category}),
        );
        last = give(api, "product", &sku, "register", body).await;
        if price > 3 {
            last = give(api, "product", &sku, "discontinue", json!({})).await;
        }
    }
    at_position(api, "product", &last).await;
    let asked = async |parameters: Value| {
        let answer = api.list("product", parameters, &[]).await;
        answer.expect(200).json()
    };
    let statuses = |listed: u64, discontinued: u64| {
        json!([
            {"value": "listed", "count": listed},
            {"value": "discontinued", "count": discontinued},
        ])
    };
    // Its own filter does not narrow a facet.
    let parameters = json!({
        "category": category, "status": "listed", "facets": "status,category", "limit": 1, "count": true
    });
    let list = asked(parameters).await;
    assert_eq!(list["count"], 3);
    assert_eq!(list["facets"]["status"]["values"], statuses(3, 2));
    let categories = list["facets"]["category"]["values"].as_array().unwrap();
    let here = categories.iter().find(|value| value["value"] == category);
    assert_eq!(here.unwrap()["count"], 3);
    // Where nothing is kept, documents are looked at.
    let parameters = json!({"category": category, "price_min": 2, "facets": "status"});
    let list = asked(parameters).await;
    assert_eq!(
        list["facets"]["status"]["values"],
        json!([
            {"value": "discontinued", "count": 2},
            {"value": "listed", "count": 2},
        ])
    );
    for facets in ["", "price_min", "status,status", "name"] {
        let parameters = json!({"facets": facets});
        let refused = api
            .list("product", parameters, &[])
            .await
            .expect(400)
            .json();
        assert_eq!(refused["field"], "facets", "{refused}");
    }
}

async fn refusals(api: &Api) {
    for (view, parameters, field) in [
        ("product", json!({"name": "a"}), "name"),
        ("product", json!({"sort": "category"}), "sort"),
        ("product", json!({"limit": 201}), "limit"),
        ("product", json!({"limit": "many"}), "limit"),
        ("product", json!({"price_min": true}), "price_min"),
        ("product", json!({"q": "  "}), "q"),
        ("storefront", json!({"q": "사과"}), "q"),
        ("storefront", json!({"sold_out": 1}), "sold_out"),
        ("product", json!({"cursor": "AAAA"}), "cursor"),
    ] {
        let refused = api.list(view, parameters.clone(), &[]).await;
        let problem = refused.problem(400, "malformed");
        assert_eq!(problem["field"], field, "{parameters}");
    }
    let first = api
        .list("product", json!({"limit": 1}), &[])
        .await
        .expect(200)
        .json();
    let foreign = json!({"cursor": first["next"], "sort": "-price"});
    let problem = api
        .list("product", foreign, &[])
        .await
        .problem(400, "malformed");
    assert_eq!(problem["field"], "cursor");
    api.list("nothing", json!({}), &[])
        .await
        .problem(404, "unknown_view");
    api.document("nothing", "a", &[])
        .await
        .problem(404, "unknown_view");
    api.document("product", "no-such", &[])
        .await
        .problem(404, "not_found");
    let ahead = [
        ("Headwater-Min-Position", "product@999999999"),
        ("Headwater-Max-Wait-Ms", "20"),
    ];
    api.document("product", "no-such", &ahead)
        .await
        .problem(504, "not_yet_applied");
    let unknown = [("Headwater-Min-Position", "nobody@1")];
    let problem = api
        .document("product", "a", &unknown)
        .await
        .problem(400, "malformed");
    assert_eq!(problem["field"], "Headwater-Min-Position");
}

#[tokio::test]
async fn views_that_were_killed_in_the_middle_count_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Service::dev_in(folder.path(), &["--no-seed"]);
    let mut service = start();
    let (mut orders, mut last) = (0, String::new());
    for round in 0..3 {
        if round > 0 {
            service = start();
        }
        let api = Api::Http(service.http());
        for _ in 0..10 {
            let (id, _) = order(&api, "nobody", "busan", "sku", 500).await;
            last = pay(&api, &id, 1_000).await;
            orders += 1;
        }
        if round < 2 {
            // The projectors may have any part of it done.
            service.signal("KILL");
            service.wait();
        }
    }
    let days = sales(&Api::Http(service.http()), "busan", &last).await;
    let sum = |field: &str| -> i64 { days.iter().map(|day| day[field].as_i64().unwrap()).sum() };
    assert_eq!(
        (sum("orders"), sum("units"), sum("revenue")),
        (orders, 2 * orders, 1_000 * orders)
    );
}
