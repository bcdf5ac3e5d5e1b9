//! The sample mart's goods, and the packs that each comes in.

/// Something that is sold, in one or more packs.
pub(super) struct Good {
    /// The beginning of its SKUs.
    pub(super) slug: &'static str,
    /// The Korean name.
    pub(super) name: &'static str,
    /// The English name.
    pub(super) name_en: &'static str,
    /// The category.
    pub(super) category: &'static str,
    /// The price of the plainest pack, in whole won.
    pub(super) price: i64,
    /// The origin or the purpose.
    pub(super) note: &'static str,
    /// The packs.
    pub(super) packs: &'static [Pack; 3],
}

/// One way in which goods are packed.
pub(super) struct Pack {
    /// The end of the SKU.
    pub(super) slug: &'static str,
    /// The end of the Korean name.
    pub(super) name: &'static str,
    /// The end of the English name.
    pub(super) name_en: &'static str,
    /// The amount that the price is for.
    pub(super) unit: &'static str,
    /// The price in percent of the good's.
    pub(super) percent: i64,
    /// True if a barcode is printed on it.
    pub(super) barcode: bool,
}

const fn loose(
    slug: &'static str,
    name: &'static str,
    name_en: &'static str,
    unit: &'static str,
    percent: i64,
) -> Pack {
    Pack {
        slug,
        name,
        name_en,
        unit,
        percent,
        barcode: false,
    }
}

const fn packed(
    slug: &'static str,
    name: &'static str,
    name_en: &'static str,
    unit: &'static str,
    percent: i64,
) -> Pack {
    Pack {
        barcode: true,
        ..loose(slug, name, name_en, unit, percent)
    }
}

const FRUIT: [Pack; 3] = [
    loose("1kg", "1kg", "1 kg", "1kg", 100),
    loose("2kg", "2kg", "2 kg", "2kg", 190),
    packed("organic", "유기농 1kg", "organic 1 kg", "1kg", 150),
];
const GREENS: [Pack; 3] = [
    loose("300g", "300g", "300 g", "300g", 100),
    loose("1kg", "1kg", "1 kg", "1kg", 280),
    packed("organic", "유기농 300g", "organic 300 g", "300g", 145),
];
const FRESH: [Pack; 3] = [
    packed("300g", "냉장 300g", "chilled 300 g", "300g", 100),
    packed("600g", "냉장 600g", "chilled 600 g", "600g", 195),
    packed("frozen-1kg", "냉동 1kg", "frozen 1 kg", "1kg", 270),
];
const BOTTLE: [Pack; 3] = [
    packed("500ml", "500ml", "500 ml", "500ml", 60),
    packed("1l", "1L", "1 l", "1L", 100),
    packed("1l-6", "1L 6개입", "1 l, pack of 6", "6개", 550),
];
const PIECES: [Pack; 3] = [
    packed("1", "1개", "single", "1개", 100),
    packed("5", "5개입", "pack of 5", "5개", 470),
    packed("20", "20개 상자", "box of 20", "20개", 1_800),
];
const SACK: [Pack; 3] = [
    packed("1kg", "1kg", "1 kg", "1kg", 100),
    packed("4kg", "4kg", "4 kg", "4kg", 375),
    packed("10kg", "10kg", "10 kg", "10kg", 900),
];
const JAR: [Pack; 3] = [
    packed("small", "소용량", "small", "200g", 60),
    packed("regular", "기본", "regular", "500g", 100),
    packed("large", "대용량", "large", "1kg", 185),
];

const fn good(
    category: &'static str,
    packs: &'static [Pack; 3],
    slug: &'static str,
    name: &'static str,
    name_en: &'static str,
    price: i64,
    note: &'static str,
) -> Good {
    Good {
        slug,
        name,
        name_en,
        category,
        price,
        note,
        packs,
    }
}

/// All goods: 72, in three packs each.
#[rustfmt::skip]
pub(super) const GOODS: [Good; 72] = [
    good("fruit", &FRUIT, "apple", "사과", "Apple", 6_900, "경북 청송"),
    good("fruit", &FRUIT, "pear", "배", "Korean pear", 7_900, "전남 나주"),
    good("fruit", &FRUIT, "mandarin", "감귤", "Mandarin", 5_900, "제주 서귀포"),
    good("fruit", &FRUIT, "hallabong", "한라봉", "Hallabong orange", 12_900, "제주"),
    good("fruit", &FRUIT, "grape", "샤인머스캣", "Shine Muscat grape", 14_900, "경북 상주"),
    good("fruit", &FRUIT, "strawberry", "딸기", "Strawberry", 13_900, "충남 논산"),
    good("fruit", &FRUIT, "persimmon", "단감", "Sweet persimmon", 6_500, "경남 진영"),
    good("fruit", &FRUIT, "banana", "바나나", "Banana", 3_900, "필리핀"),
    good("fruit", &FRUIT, "kiwi", "키위", "Kiwi", 8_900, "뉴질랜드"),
    good("fruit", &FRUIT, "tomato", "방울토마토", "Cherry tomato", 7_500, "부산 대저"),
    good("vegetable", &GREENS, "napa-cabbage", "알배추", "Baby napa cabbage", 2_900, "강원 평창"),
    good("vegetable", &GREENS, "radish", "무", "Radish", 1_900, "제주"),
    good("vegetable", &GREENS, "onion", "양파", "Onion", 1_500, "전남 무안"),
    good("vegetable", &GREENS, "garlic", "깐마늘", "Peeled garlic", 3_900, "충남 서산"),
    good("vegetable", &GREENS, "green-onion", "대파", "Green onion", 2_400, "전남 진도"),
    good("vegetable", &GREENS, "potato", "감자", "Potato", 2_100, "강원 정선"),
    good("vegetable", &GREENS, "sweet-potato", "고구마", "Sweet potato", 2_900, "전남 해남"),
    good("vegetable", &GREENS, "carrot", "당근", "Carrot", 1_700, "제주 구좌"),
    good("vegetable", &GREENS, "spinach", "시금치", "Spinach", 2_600, "경남 남해"),
    good("vegetable", &GREENS, "bean-sprouts", "콩나물", "Bean sprouts", 1_300, "국산 콩"),
    good("vegetable", &GREENS, "perilla", "깻잎", "Perilla leaves", 2_200, "충남 금산"),
    good("vegetable", &GREENS, "lettuce", "상추", "Lettuce", 2_300, "경기 남양주"),
    good("vegetable", &GREENS, "zucchini", "애호박", "Zucchini", 1_800, "강원 춘천"),
    good("vegetable", &GREENS, "king-oyster", "새송이버섯", "King oyster mushroom", 2_000, "경북 청도"),
    good("meat", &FRESH, "pork-belly", "삼겹살", "Pork belly", 10_900, "국내산 한돈"),
    good("meat", &FRESH, "pork-neck", "목살", "Pork neck", 9_900, "국내산 한돈"),
    good("meat", &FRESH, "beef-brisket", "소고기 양지", "Beef brisket", 16_900, "한우"),
    good("meat", &FRESH, "bulgogi", "불고기감", "Beef for bulgogi", 14_900, "한우"),
    good("meat", &FRESH, "chicken-breast", "닭가슴살", "Chicken breast", 5_900, "국내산"),
    good("meat", &FRESH, "chicken", "볶음탕용 닭", "Cut chicken", 6_900, "국내산"),
    good("fish", &FRESH, "mackerel", "고등어", "Mackerel", 6_500, "제주"),
    good("fish", &FRESH, "hairtail", "갈치", "Hairtail", 11_900, "제주"),
    good("fish", &FRESH, "squid", "오징어", "Squid", 7_900, "동해안"),
    good("fish", &FRESH, "shrimp", "새우살", "Peeled shrimp", 9_900, "베트남"),
    good("fish", &FRESH, "salmon", "연어", "Salmon", 13_900, "노르웨이"),
    good("fish", &FRESH, "clams", "바지락", "Manila clams", 4_500, "전남 고흥"),
    good("dairy", &BOTTLE, "milk", "우유", "Milk", 2_900, "1등급 원유"),
    good("dairy", &BOTTLE, "low-fat-milk", "저지방 우유", "Low-fat milk", 2_980, "1등급 원유"),
    good("dairy", &BOTTLE, "soy-milk", "두유", "Soy milk", 2_700, "국산 콩"),
    good("dairy", &BOTTLE, "drinking-yogurt", "마시는 요거트", "Drinking yogurt", 4_300, "무가당"),
    good("dairy", &PIECES, "yogurt", "요거트", "Yogurt", 1_200, "플레인"),
    good("dairy", &PIECES, "cheese", "슬라이스 치즈", "Sliced cheese", 980, "체다"),
    good("dairy", &JAR, "butter", "버터", "Butter", 8_900, "무염"),
    good("egg-tofu", &PIECES, "tofu", "두부", "Tofu", 1_800, "국산 콩"),
    good("egg-tofu", &PIECES, "soft-tofu", "순두부", "Soft tofu", 1_500, "국산 콩"),
    good("egg-tofu", &PIECES, "egg", "계란", "Egg", 400, "무항생제 대란"),
    good("grain", &SACK, "rice", "쌀", "White rice", 4_200, "경기 이천"),
    good("grain", &SACK, "brown-rice", "현미", "Brown rice", 4_600, "충남 당진"),
    good("grain", &SACK, "mixed-grains", "혼합 잡곡", "Mixed grains", 7_800, "열다섯 가지"),
    good("noodles", &PIECES, "ramen", "매운 라면", "Spicy ramen", 950, "얼큰한 맛"),
    good("noodles", &PIECES, "mild-ramen", "순한 라면", "Mild ramen", 900, "아이와 함께"),
    good("noodles", &PIECES, "jajang-ramen", "짜장 라면", "Black bean ramen", 1_200, "볶은 춘장"),
    good("noodles", &PIECES, "cup-ramen", "컵라면", "Cup ramen", 1_150, "3분"),
    good("noodles", &PIECES, "somyeon", "소면", "Thin wheat noodles", 2_300, "국내산 밀"),
    good("noodles", &PIECES, "buckwheat-noodles", "메밀국수", "Buckwheat noodles", 3_400, "강원 봉평"),
    good("frozen", &PIECES, "dumplings", "왕만두", "King dumplings", 6_900, "고기와 부추"),
    good("frozen", &PIECES, "rice-cakes", "떡볶이 떡", "Rice cakes for tteokbokki", 3_200, "국산 쌀"),
    good("frozen", &PIECES, "ice-cream", "아이스크림", "Ice cream bar", 1_000, "팥"),
    good("snack", &PIECES, "shrimp-crackers", "새우 과자", "Shrimp crackers", 1_500, "바삭한"),
    good("snack", &PIECES, "choco-pie", "초코 케이크", "Chocolate marshmallow cake", 600, "마시멜로"),
    good("snack", &PIECES, "seaweed-snack", "김 스낵", "Seaweed snack", 1_900, "완도 김"),
    good("snack", &PIECES, "honey-chips", "꿀 감자칩", "Honey potato chips", 1_700, "국산 감자"),
    good("drink", &BOTTLE, "water", "생수", "Mineral water", 700, "제주 화산암반수"),
    good("drink", &BOTTLE, "sparkling-water", "탄산수", "Sparkling water", 1_300, "라임"),
    good("drink", &BOTTLE, "barley-tea", "보리차", "Barley tea", 1_800, "국산 보리"),
    good("drink", &BOTTLE, "orange-juice", "오렌지 주스", "Orange juice", 4_500, "착즙"),
    good("sauce", &JAR, "gochujang", "고추장", "Gochujang chili paste", 7_900, "전북 순창"),
    good("sauce", &JAR, "doenjang", "된장", "Doenjang soybean paste", 6_900, "재래식"),
    good("sauce", &JAR, "kimchi", "포기김치", "Napa cabbage kimchi", 8_900, "국산 배추"),
    good("sauce", &BOTTLE, "soy-sauce", "양조간장", "Soy sauce", 5_400, "자연 숙성"),
    good("household", &PIECES, "tissue", "두루마리 휴지", "Toilet paper", 900, "3겹"),
    good("household", &PIECES, "dish-soap", "주방 세제", "Dish soap", 3_500, "베이킹소다"),
];
