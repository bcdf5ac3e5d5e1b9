//! The first answers of another log: who has a command accepted by it reads at once with its position, and is
//! never answered from a view of the log before, not even for the moment until the replica has noticed.

use super::{
    Backup, Becomes, Kept, LONG, LOST, Length, World, document, last_position, registered, shown,
};
use crate::harness::{
    api::{Api, Http},
    poll::eventually_within,
};
use serde_json::json;

impl World {
    /// Has a product registered by the first command that the other log takes; returns its position.
    async fn first(&mut self, id: &str) -> String {
        let api = Api::Http(self.replicas[0].service().http());
        eventually_within(LONG, "a command is accepted", || async {
            let given = api.command("product", id, "register", registered(id)).await;
            (given.status == 200).then(|| given.header("Headwater-Position").to_owned())
        })
        .await
    }
}

/// Reads what the position made, and what only the log before has made otherwise.
async fn never_of_the_log_before(http: &Http, id: &str, changed: &str, position: &str) {
    let at = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "1000"),
    ];
    eventually_within(LONG, "the position is reached", || async {
        let made = document(http, id, &at).await;
        assert_ne!(made.status, 404, "{made:?}");
        let kept = document(http, changed, &at).await;
        let price = (kept.status == 200).then(|| kept.json()["document"]["price"].clone());
        assert_ne!(price, Some(json!(99)), "{kept:?}");
        let list = "/views/product?q=lost&limit=1";
        let list = http.get(list, &at).await;
        let lost = (list.status == 200).then(|| list.json()["items"].clone());
        assert!(
            lost.as_ref().is_none_or(|lost| *lost == json!([])),
            "{lost:?}"
        );
        let is_there = made.status == 200 && kept.status != 503 && lost.is_some();
        is_there.then_some(())
    })
    .await;
}

async fn answers_at_once(becomes: Becomes, is_shared: bool) {
    let mut world = World::start(is_shared).await;
    for (round, length) in [Length::Shorter, Length::AsLong, Length::Longer]
        .into_iter()
        .enumerate()
    {
        println!("{becomes:?}, {length:?}, shared: {is_shared}");
        let changed = format!("changed-{round}");
        world.register(&changed).await;
        let kept = match becomes {
            Becomes::Cut => Kept::Files(world.nats.copy_stream("EVENTS")),
            Becomes::Restored => Kept::Backup(Backup::take(&world.client, "EVENTS").await),
            Becomes::Anew => Kept::Nothing,
        };
        for number in 0..LOST {
            world.register(&format!("lost-{number}")).await;
        }
        let position = world
            .product(&changed, "reprice", json!({"price": 99}))
            .await;
        let surfaces = world.surfaces();
        shown(&surfaces, &changed, &position).await;
        let end = last_position(&world.client, "EVENTS").await;
        // The first commit that replicas make is to have the end's position where the log is as long.
        let to = match length {
            Length::Shorter => end - 6,
            Length::AsLong => end - 1,
            Length::Longer => end + 5,
        };
        world.replace(kept, to).await;
        let id = format!("first-{round}");
        let position = world.first(&id).await;
        let surfaces = world.surfaces();
        let reads = surfaces
            .iter()
            .map(|http| never_of_the_log_before(http, &id, &changed, &position));
        futures::future::join_all(reads).await;
    }
}

macro_rules! at_once {
    ($($name:ident: $becomes:ident, $shared:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            answers_at_once(Becomes::$becomes, $shared).await;
        }
    )*};
}

at_once! {
    the_first_answers_of_a_log_that_was_cut: Cut, false;
    the_first_answers_of_a_log_that_was_restored: Restored, false;
    the_first_answers_of_a_log_that_was_made_anew: Anew, false;
    the_first_answers_of_a_log_that_was_cut_under_a_shared_store: Cut, true;
    the_first_answers_of_a_log_that_was_restored_under_a_shared_store: Restored, true;
    the_first_answers_of_a_log_that_was_made_anew_under_a_shared_store: Anew, true;
}
