use super::{SimAction, known};
use crate::sim::network::below;
use crate::sim::world::World;

/// The trace prints random actions as scenario lines, so each must parse to the same action; and
/// every kind of action must be drawn.
#[test]
fn drawn_actions_round_trip_through_text() {
    let mut world = World::new(1);
    for device in 0..5 {
        world.add();
        world.start(device, device == 0, if device == 0 { &[] } else { &[0] });
    }
    // The others are admitted meanwhile.
    world.run_for(std::time::Duration::from_secs(5)).unwrap();
    world.devices[2].disk.full = true;
    let mut words = std::collections::BTreeSet::new();
    for _ in 0..3_000 {
        let action = super::draw(&mut world);
        let read: SimAction =
            action.to_string().parse().unwrap_or_else(|why| panic!("{action}: {why}"));
        assert_eq!(read, action);
        words.insert(action.keyword());
        if below(&mut world.rng, 10) == 0 && world.running().len() > 1 {
            world.kill(4);
        }
    }
    // Never drawn: if two devices move and no other member knows both addresses, only an operator
    // or multicast, which is not simulated, could bring them together. A history revokes its liar
    // at its end.
    let undrawn = ["move", "revoke"];
    for line in known().lines() {
        let word = line.split_whitespace().next().unwrap();
        if undrawn.contains(&word) {
            continue;
        }
        assert!(words.contains(word), "`{word}` is never drawn");
    }
}

#[test]
fn weather_can_be_given_in_parts() {
    let parts = "weather loss 20 delay 40ms n1".parse::<SimAction>().unwrap();
    assert_eq!(
        parts.to_string(),
        "weather delay 40ms jitter 200us loss 20 repeat 200ms duplicates 0 stray 0 n1"
    );
    assert_eq!("weather satellite".parse::<SimAction>().unwrap().to_string(), "weather satellite");
}

/// An author of a scenario must see from the error alone what would be right.
#[test]
fn parse_error_names_what_is_expected() {
    for (line, what) in [
        ("", "an action is missing"),
        ("explode n1", "`explode` is no action; known are publish, publish-kind, remove"),
        ("kill", "a device is missing; it is `kill NODE [after EFFECTS]`"),
        ("kill 3", "`3` is no device: `n0`, `any`, `holder:web/0` or `owner:web` are"),
        ("kill n1 n2", "`n2` is one word too many"),
        ("pause n1 soon", "`soon` is no time"),
        ("publish Web 3", "it is `publish NAME REPLICAS"),
        ("rule web many", "`many` is not a value"),
        ("publish web many", "`many` is not a number of replicas"),
        ("partition n0 n1", "a partition has two groups or more"),
        ("weather hail", "`hail` is no weather"),
        ("weather", "the weather is missing"),
        ("weather delay", "a time is missing"),
        ("weather loss 1000", "1000 is not a number of a thousand from 0 to 999"),
        ("weather loss 20 n1 n2", "`n2` is one word too many"),
        ("publish web 20000", "20000 is not a number of replicas from 0 to 10000"),
        ("join 0", "0 is not a number of devices from 1 to 1000"),
        ("clock n0 pace 0", "0 is not a number of thousandths from 1 to 100000"),
        ("clock n0 jump 99999999h", "`99999999h` is no time"),
        ("pause n1 9999h", "`9999h` is longer than 1000h"),
        ("runtime n0 sleeps", "a runtime does not `sleeps`"),
        ("engine n0 sleeps", "an engine does not `sleeps`"),
        ("clock n0 stops", "a clock does not `stops`"),
    ] {
        let why = line.parse::<SimAction>().expect_err(line).to_string();
        assert!(why.contains(what), "`{line}`: {why}");
    }
}
