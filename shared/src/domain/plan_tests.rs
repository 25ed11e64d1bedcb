//! Moves: what keeps one from being made, and that several made as one are as if each were made in turn.

use proptest::prelude::*;

use super::*;
use crate::domain::fixtures::unit_key;

fn at() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn key() -> UnitKey {
    unit_key("A")
}

fn unit(available: u64, reserved: u64, sold: u64) -> StockUnit {
    StockUnit { available, reserved, sold, version: 1, physical: 1, ..StockUnit::empty(key(), at()) }
}

fn limited(delta: Delta, ordered: u64) -> Move {
    let mut one = Move::shift(key(), delta);
    one.guards.push(Guard::Limit(ordered));
    one
}

#[test]
fn what_keeps_a_move_from_being_made() {
    let there = unit(2, 3, 4);
    let told = |delta| Move::shift(key(), delta).obstacle(Some(&there));
    assert_eq!(told(Delta::hold(2)), None);
    assert_eq!(told(Delta::hold(3)), Some(Obstacle::Lack(Lack::Short { available: 2 })));
    assert_eq!(told(Delta::ship_unheld(3)), Some(Obstacle::Lack(Lack::Short { available: 2 })));
    assert_eq!(told(Delta::give_back(4)), Some(Obstacle::Broken));
    assert_eq!(told(Delta::unship(5)), Some(Obstacle::Broken));
    assert_eq!(Move::shift(key(), Delta::hold(1)).obstacle(None), Some(Obstacle::Lack(Lack::Unknown)));
    assert_eq!(Move::shift(key(), Delta::give_back(1)).obstacle(None), Some(Obstacle::Broken));
    let most_two = StockUnit { max_per_order: Some(2), ..there };
    let over = Some(Obstacle::Lack(Lack::OverLimit { max_per_order: 2 }));
    assert_eq!(limited(Delta::hold(1), 3).obstacle(Some(&most_two)), over);
    assert_eq!(limited(Delta::hold(9), 9).obstacle(Some(&most_two)), over, "waiting does not mend it");
    assert_eq!(limited(Delta::hold(1), 2).obstacle(Some(&most_two)), None);
}

#[test]
fn what_rests_on_how_it_stands_shares_with_nobody() {
    let effect = || Effect::Shift(Delta { available: 1, ..Delta::default() });
    for guard in [Guard::Room(1), Guard::Physical(1), Guard::Absent] {
        assert!(!Move { unit: key(), effect: effect(), guards: vec![guard] }.can_be_combined(), "{guard:?}");
    }
    assert!(limited(Delta::hold(1), 1).can_be_combined());
    assert!(!Move { unit: key(), effect: Effect::Add(1), guards: vec![] }.can_be_combined());
}

/// A stock unit does not begin by being given something, whether alone or beside others.
#[test]
fn a_change_needs_a_stock_unit() {
    let given = Move::shift(key(), Delta { available: 5, ..Delta::default() });
    assert_eq!(given.guards, [Guard::Exists]);
    assert_eq!(given.obstacle(None), Some(Obstacle::Lack(Lack::Unknown)));
    let hold = Move::shift(key(), Delta::hold(3));
    assert_eq!(Move::combine(&[&given, &hold]).guards, [Guard::Exists]);
    assert_eq!(Move::combine(&[&hold, &given]).guards, [Guard::AtLeast(Counter::Available, 3)]);
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let delta = prop_oneof![
        (1_u64..5).prop_map(Delta::hold),
        (1_u64..5).prop_map(Delta::give_back),
        (1_u64..5).prop_map(Delta::ship_held),
        (1_u64..5).prop_map(Delta::ship_unheld),
        (1_u64..5).prop_map(Delta::unship),
    ];
    let one = (delta, prop::option::of(1_u64..5));
    prop::collection::vec(one, 1..6).prop_map(|all| {
        let guarded = |(delta, ordered): (Delta, Option<u64>)| match ordered {
            Some(ordered) => limited(delta, ordered),
            None => Move::shift(key(), delta),
        };
        all.into_iter().map(guarded).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Several moves made as one: possible exactly where each is possible in its turn, and with the same end.
    #[test]
    fn combined_is_one_after_the_other(
        moves in moves(),
        figures in prop::array::uniform3(0_u64..8),
        limit in prop::option::of(1_u64..5),
    ) {
        let [available, reserved, sold] = figures;
        let before = StockUnit { max_per_order: limit, ..unit(available, reserved, sold) };
        let mut in_turn = Some(before.clone());
        for one in &moves {
            in_turn = in_turn
                .filter(|there| one.obstacle(Some(there)).is_none())
                .map(|there| one.unit_after(Some(&there), &Cause::default(), at()));
        }
        let combined = Move::combine(&moves.iter().collect::<Vec<_>>());
        prop_assert_eq!(combined.obstacle(Some(&before)).is_none(), in_turn.is_some());
        if let Some(in_turn) = in_turn {
            let at_once = combined.unit_after(Some(&before), &Cause::default(), at());
            let figures = |unit: &StockUnit| Counter::ALL.map(|counter| unit.counter(counter));
            prop_assert_eq!(figures(&at_once), figures(&in_turn));
            prop_assert_eq!(at_once.version, before.version + 1, "it is one write");
        }
    }
}
