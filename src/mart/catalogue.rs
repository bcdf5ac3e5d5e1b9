//! Sample data for a first look: branches, products, stocks, displays and members, as commands.
//!
//! The data is the same every time, so that ids printed in a guide can be relied on.

mod goods;

use super::{
    display::{self, Display},
    member::{self, Member},
    product::{self, Product},
    stock::{self, Stock},
};
use goods::{GOODS, Good, Pack};
use headwater_core::sample::SampleCommand;

/// The branches.
pub const BRANCHES: [&str; 3] = ["gangnam", "seongsu", "hongdae"];

/// All commands, in an order in which each is accepted.
#[must_use]
pub fn sample() -> Vec<SampleCommand> {
    let mut commands = products();
    commands.extend(members());
    for (number, branch) in BRANCHES.into_iter().enumerate() {
        commands.extend(stocks(number, branch));
        commands.extend(displays(number, branch));
    }
    commands
}

fn skus() -> impl Iterator<Item = (&'static Good, &'static Pack)> {
    GOODS
        .iter()
        .flat_map(|good| good.packs.iter().map(move |pack| (good, pack)))
}

fn sku(good: &Good, pack: &Pack) -> String {
    format!("{}-{}", good.slug, pack.slug)
}

fn products() -> Vec<SampleCommand> {
    let product = |(number, (good, pack)): (usize, (&Good, &Pack))| {
        let command = product::Command::Register {
            name: format!("{} {}", good.name, pack.name),
            name_en: Some(format!("{}, {}", good.name_en, pack.name_en)),
            // Prices on a price tag end in 0.
            price: good.price * pack.percent / 1_000 * 10,
            category: good.category.to_owned(),
            unit: Some(pack.unit.to_owned()),
            barcode: pack.barcode.then(|| barcode(number)),
            description: Some(good.note.to_owned()),
        };
        SampleCommand::new::<Product>(sku(good, pack), &command)
    };
    skus().enumerate().map(product).collect()
}

/// An EAN-13 of the Korean range.
fn barcode(number: usize) -> String {
    let digits = format!("880{:09}", 123_400_000 + number);
    let sum: u32 = digits
        .bytes()
        .zip([1, 3].into_iter().cycle())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

fn members() -> Vec<SampleCommand> {
    let members = [
        ("haneul", "김하늘", "서울 강남구 테헤란로 12, 301호"),
        ("bada", "이바다", "서울 성동구 왕십리로 34, 1502호"),
        ("sol", "박솔", "서울 마포구 와우산로 56"),
        ("byeol", "최별", "서울 강남구 논현로 78, 2층"),
        ("garam", "정가람", "서울 성동구 연무장길 9"),
        ("nuri", "한누리", "서울 마포구 양화로 101, 804호"),
    ];
    members
        .into_iter()
        .map(|(id, name, address)| {
            let command = member::Command::Register {
                name: name.to_owned(),
                email: format!("{id}@example.com"),
                address: Some(address.to_owned()),
            };
            SampleCommand::new::<Member>(format!("m-{id}"), &command)
        })
        .collect()
}

fn stocks(branch_number: usize, branch: &str) -> Vec<SampleCommand> {
    let mut commands = Vec::new();
    for (number, (good, pack)) in skus().enumerate() {
        let id = format!("{branch}_{}", sku(good, pack));
        let scattered = number * 37 + branch_number * 53;
        let quantity = 20 + (scattered % 181) as i64;
        let receive = stock::Command::Receive { quantity };
        commands.push(SampleCommand::new::<Stock>(&*id, &receive));
        // Some are sold out, as in every mart.
        if scattered % 23 == 22 {
            let adjust = stock::Command::Adjust {
                delta: -quantity,
                reason: "운송 중 파손".to_owned(),
            };
            commands.push(SampleCommand::new::<Stock>(id, &adjust));
        }
    }
    commands
}

fn displays(branch_number: usize, branch: &str) -> Vec<SampleCommand> {
    let sections = [
        ("fruit", "오늘의 과일", &["fruit"][..], 15),
        (
            "dinner",
            "저녁 반찬거리",
            &["vegetable", "meat", "fish", "egg-tofu"],
            20,
        ),
        (
            "night",
            "야식 코너",
            &["noodles", "snack", "frozen", "drink"],
            12,
        ),
    ];
    let mut commands = Vec::new();
    for (section, title, categories, count) in sections {
        let id = format!("{branch}-{section}");
        let mut add = |command| commands.push(SampleCommand::new::<Display>(&*id, &command));
        add(display::Command::Open {
            branch: branch.into(),
            title: title.to_owned(),
        });
        let suitable: Vec<_> = skus()
            .filter(|(good, _)| categories.contains(&good.category))
            .collect();
        // Each branch begins elsewhere and takes every few, so that no two are alike.
        let chosen = suitable
            .iter()
            .cycle()
            .skip(branch_number)
            .step_by(suitable.len() / count)
            .take(count);
        for (rank, (good, pack)) in (1..).zip(chosen) {
            let sku = sku(good, pack);
            add(display::Command::Place {
                sku: sku.into(),
                rank,
            });
        }
        if section == "night" {
            add(display::Command::Schedule {
                from: "2026-11-01T00:00:00+09:00".parse().expect("a time"),
                until: "2030-01-01T00:00:00+09:00".parse().expect("a time"),
            });
        }
    }
    commands
}

#[cfg(test)]
mod tests;
