use super::*;

fn op() -> Op {
    Op {
        phase: Phase::Queued,
        operation: None,
        waker: None,
        owner: OpOwner::Awaited,
        is_stalled: false,
    }
}

#[test]
fn the_table_of_operations_shrinks_after_a_burst() {
    let mut ops = Ops::default();
    let first = ops.insert(op()); // stays through all bursts
    for _ in 0..3 {
        let slots: Vec<_> = (0..100_000).map(|_| ops.insert(op())).collect();
        assert!(ops.slab.capacity() > 100_000);
        // In an order that leaves holes.
        for odd in [true, false] {
            let these = slots.iter().filter(|&slot| (slot % 2 == 1) == odd);
            these.for_each(|&slot| drop(ops.release(slot)));
        }
        assert!(ops.slab.capacity() <= KEPT, "{}", ops.slab.capacity());
    }
    assert_eq!(first, 0);
}

#[test]
fn a_slot_belongs_to_one_operation_at_a_time() {
    let mut ops = Ops::default();
    let (mut taken, mut random) = (Vec::new(), 7_u32);
    for _ in 0..100_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Waves, so that the table grows and shrinks.
        let grows = taken.len() < 300 * (1 + random as usize % 3);
        if random >> 30 != 0 && grows || taken.is_empty() {
            let slot = ops.insert(op());
            assert!(!taken.contains(&slot));
            taken.push(slot);
        } else {
            let slot = taken.swap_remove((random >> 8) as usize % taken.len());
            drop(ops.release(slot));
        }
        assert_eq!(ops.slab.len(), taken.len());
    }
}
