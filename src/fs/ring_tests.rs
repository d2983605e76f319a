use super::*;

fn flight() -> Flight {
    Flight {
        phase: Phase::InLine,
        operation: None,
        waker: None,
        fate: Fate::Awaited,
        is_stalled: false,
    }
}

#[test]
fn the_table_of_operations_shrinks_after_a_burst() {
    let mut flights = Flights {
        slots: Vec::new(),
        free: Vec::new(),
    };
    let first = flights.insert(flight()); // goes on through all bursts
    for _ in 0..3 {
        let slots: Vec<_> = (0..100_000).map(|_| flights.insert(flight())).collect();
        assert!(flights.slots.len() > 100_000);
        // In an order that leaves holes.
        for odd in [true, false] {
            let these = slots.iter().filter(|&slot| (slot % 2 == 1) == odd);
            these.for_each(|&slot| drop(flights.free(slot)));
        }
        assert!(flights.slots.len() <= KEPT);
        let capacity = flights.slots.capacity().max(flights.free.capacity());
        assert!(capacity <= 4 * KEPT, "{capacity}");
    }
    assert_eq!(first, 0);
}

#[test]
fn a_slot_is_given_to_one_operation_at_a_time() {
    let mut flights = Flights {
        slots: Vec::new(),
        free: Vec::new(),
    };
    let (mut taken, mut random) = (Vec::new(), 7_u32);
    for _ in 0..100_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Waves, so that the table grows and shrinks.
        let grows = taken.len() < 300 * (1 + random as usize % 3);
        if random >> 30 != 0 && grows || taken.is_empty() {
            let slot = flights.insert(flight());
            assert!(!taken.contains(&slot));
            taken.push(slot);
        } else {
            let slot = taken.swap_remove((random >> 8) as usize % taken.len());
            drop(flights.free(slot));
        }
        assert!(
            flights.free.len() <= 2000,
            "entries of slots that are cut off pile up"
        );
    }
}
