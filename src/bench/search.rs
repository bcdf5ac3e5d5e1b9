//! `bench search`: a page of what `q` finds, over HTTP.
//!
//! Beside a page of the same size without `q`, which an index holds in its order: what remains is the
//! search. The names are Korean, of three words and an amount; half of the searches are for one word,
//! half for two that some name has. Beside both, searches for a word that a third of the names have.

use super::{
    Bench, BenchError, LoadThreads, Rounds, closed_loop,
    http::{self, Connection},
    queries::{Mart, QueriesOptions},
    report::common_settings,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;

const FIRST: [char; 20] = [
    '사', '배', '감', '귤', '콩', '쌀', '김', '무', '파', '굴', '닭', '꿀', '잣', '밤', '깨', '묵',
    '쑥', '팥', '홍', '청',
];
const SECOND: [char; 20] = [
    '과', '추', '자', '차', '나', '물', '치', '말', '전', '국', '살', '떡', '죽', '빵', '묵', '장',
    '면', '술', '탕', '밥',
];
/// The number of words there are. Each is in three of so many names.
const WORDS: usize = FIRST.len() * SECOND.len();
/// The word that every third name has.
const COMMON: &str = "국산";
/// The number of different searches.
const SEARCHES: usize = 4 * WORDS;

/// The name of a product of this number.
#[must_use]
pub fn name(number: usize) -> String {
    let [first, second, third] = words(number);
    let common = if number.is_multiple_of(3) {
        COMMON
    } else {
        "수입"
    };
    format!("{first} {second} {third} {common} {}kg", number % 20 + 1)
}

/// Numbers that are next to each other have nothing in common.
fn words(number: usize) -> [String; 3] {
    [2_654_435_761, 40_503, 2_246_822_519].map(|factor: usize| {
        let word = number.wrapping_add(1).wrapping_mul(factor) >> 7;
        let (first, second) = (word % FIRST.len(), word / FIRST.len() % SECOND.len());
        [FIRST[first], SECOND[second]].iter().collect()
    })
}

fn path(number: usize, documents: usize) -> String {
    // Of a name that there is, wherever it is.
    let [first, second, _] = words(number.wrapping_mul(7_919) % documents.max(1));
    let q = match number % 2 {
        0 => first,
        _ => format!("{first} {second}"),
    };
    searching(&q, "")
}

/// The path of a search, with more parameters.
fn searching(q: &str, more: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("q", q)
        .finish();
    format!("/views/product?{query}{more}")
}

/// Measures searches.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or a search fails.
pub async fn run(options: QueriesOptions) -> Result<Bench, BenchError> {
    let scratch = options.scratch().await?;
    let threads = LoadThreads::start()?;
    let measured = async {
        let mart = Mart::start(&scratch, &options, threads.handle()).await?;
        let searches = (0..SEARCHES).map(|number| path(number, options.documents));
        let searches: Arc<[_]> = searches.map(|path| http::get(&path, &[])).collect();
        let list: Arc<[_]> = [http::get("/views/product?sort=name", &[])].into();
        let common: Arc<[_]> = [http::get(&searching(COMMON, ""), &[])].into();
        let sorted: Arc<[_]> = [http::get(&searching(COMMON, "&sort=name"), &[])].into();
        let mut connections = Vec::new();
        for _ in 0..options.clients {
            let connection = Connection::open(mart.address).await?;
            connections.push(Arc::new(Mutex::new(connection)));
        }
        let connections: Arc<[_]> = connections.into();
        let measure = async |requests: &Arc<[Vec<u8>]>, length: Duration| {
            let (connections, requests) = (Arc::clone(&connections), Arc::clone(requests));
            let operation = move |worker: usize, done: u64| {
                let (connection, requests) = (Arc::clone(&connections[worker]), requests.clone());
                async move {
                    // Other workers are elsewhere among the searches.
                    let number = (worker * 7_919 + done as usize) % requests.len();
                    connection.lock().await.ask(&requests[number]).await?;
                    Ok(())
                }
            };
            closed_loop(threads.handle(), options.clients, length, operation).await
        };
        let length = options.length / options.rounds.max(1);
        for requests in [&list, &searches, &common, &sorted] {
            measure(requests, length.min(Duration::from_secs(1))).await?;
        }
        let mut rounds = Rounds::default();
        for _ in 0..options.rounds.max(1) {
            rounds.floor("list", &measure(&list, length).await?);
            rounds.floor("common word", &measure(&common, length).await?);
            rounds.floor("common word, sorted", &measure(&sorted, length).await?);
            rounds.ours(&measure(&searches, length).await?);
        }
        let mut settings = common_settings();
        settings.extend([
            ("documents".to_owned(), options.documents.into()),
            ("connections".to_owned(), options.clients.into()),
            ("words".to_owned(), WORDS.into()),
            ("seconds".to_owned(), options.length.as_secs_f64().into()),
            ("rounds".to_owned(), options.rounds.into()),
        ]);
        mart.stop().await;
        Ok(rounds.into_bench("search", settings))
    }
    .await;
    scratch.stop().await;
    measured
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_of_all_words_alike() {
        let names: Vec<_> = (0..4_000).map(words).collect();
        let all: BTreeSet<_> = names.iter().flatten().collect();
        assert_eq!(all.len(), WORDS);
        let with = |word: &str| {
            names
                .iter()
                .filter(|name| name.iter().any(|w| w == word))
                .count()
        };
        for word in all {
            assert!((5..100).contains(&with(word)), "{word} {}", with(word));
        }
        assert_eq!(name(0), name(0));
    }
}
