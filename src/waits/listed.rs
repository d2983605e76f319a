//! The objects of a thread that may have waiters.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::{PhantomData, PhantomPinned};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::panic::RefUnwindSafe;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{FacadeGroup, FacadeWait};

/// An object that lists its waits. It only reads, and runs no user code.
pub(crate) trait ListWaits {
    fn list_waits(&self, waits: &mut Vec<FacadeWait>);

    /// Adds the group, if the object is one.
    fn list_group(&self, _groups: &mut Vec<FacadeGroup>) {}
}

/// An object that is in the list of its thread from [`join`](Listed::join) until it is dropped.
pub(crate) struct Listed<T> {
    position: Position,
    object: T,
    /// An object that moves would leave its address in the list.
    _pinned: PhantomPinned,
    /// The list is the thread's.
    _not_send: PhantomData<Rc<()>>,
}

/// The position in the list plus one. `None` outside of the list.
type Position = Cell<Option<NonZeroU32>>;

/// What the list knows of an object.
trait Member: ListWaits {
    fn position(&self) -> &Position;
}

thread_local! {
    static OBJECTS: RefCell<Vec<Pointer>> = const { RefCell::new(Vec::new()) };
}

/// The list keeps this much capacity when it shrinks (8 KiB).
const KEPT: usize = 512;

impl<T> Listed<T> {
    pub(crate) const fn new(object: T) -> Self {
        Listed {
            position: Cell::new(None),
            object,
            _pinned: PhantomPinned,
            _not_send: PhantomData,
        }
    }
}

impl<T: ListWaits + 'static> Listed<T> {
    /// Puts the object into the list, unless it is there already.
    #[inline]
    pub(crate) fn join(self: Pin<&Self>) {
        if self.position.get().is_none() {
            add(self.get_ref());
        }
    }
}

#[cold]
fn add(member: &(dyn Member + 'static)) {
    // At the end of the thread there is no list, and nothing that reads it.
    let _ = OBJECTS.try_with(|objects| {
        let mut objects = objects.borrow_mut();
        // An object beyond the range is not listed.
        let position = u32::try_from(objects.len() + 1).ok();
        if let Some(position) = position.and_then(NonZeroU32::new) {
            objects.push(Pointer(NonNull::from(member)));
            member.position().set(Some(position));
        }
    });
}

#[cold]
fn remove(position: NonZeroU32) {
    let _ = OBJECTS.try_with(|objects| {
        let mut objects = objects.borrow_mut();
        let index = position.get() as usize - 1;
        objects.swap_remove(index);
        if let Some(moved) = objects.get(index) {
            moved.get().position().set(Some(position));
        }
        if objects.capacity() > KEPT && objects.len() <= objects.capacity() / 4 {
            let capacity = (2 * objects.len()).max(KEPT);
            objects.shrink_to(capacity);
        }
    });
}

/// Lists the waits of this thread's objects.
pub(crate) fn list_objects(waits: &mut Vec<FacadeWait>) {
    for_each(|object| object.list_waits(waits));
}

/// Lists this thread's groups.
pub(crate) fn list_groups(groups: &mut Vec<FacadeGroup>) {
    for_each(|object| object.list_group(groups));
}

fn for_each(mut f: impl FnMut(&dyn Member)) {
    let _ = OBJECTS.try_with(|objects| objects.borrow().iter().for_each(|it| f(it.get())));
}

struct Pointer(NonNull<dyn Member>);

impl Pointer {
    fn get(&self) -> &dyn Member {
        // SAFETY: `join` got the object by a shared pinned reference. So it stays at its address,
        // and is only accessed by shared references, until its drop begins. The drop removes this
        // pointer first, on this thread, because the object is not `Send`. Pointers leave the list
        // nowhere, so each one in the list is valid.
        unsafe { self.0.as_ref() }
    }
}

impl<T: ListWaits> ListWaits for Listed<T> {
    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        self.object.list_waits(waits);
    }

    fn list_group(&self, groups: &mut Vec<FacadeGroup>) {
        self.object.list_group(groups);
    }
}

impl<T: ListWaits> Member for Listed<T> {
    fn position(&self) -> &Position {
        &self.position
    }
}

impl<T> Deref for Listed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T> Drop for Listed<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(position) = self.position.get() {
            remove(position);
        }
    }
}

// A panic leaves the list consistent.
impl<T: RefUnwindSafe> RefUnwindSafe for Listed<T> {}

impl<T: fmt::Debug> fmt::Debug for Listed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    struct Object(usize);

    impl ListWaits for Object {
        fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
            waits.push(wait(self.0));
        }
    }

    fn wait(object: usize) -> FacadeWait {
        FacadeWait {
            waker: crate::waits::WakerId::of(std::task::Waker::noop()),
            kind: crate::waits::WaitKind::Event,
            object,
            created_at: None,
        }
    }

    fn listed() -> Vec<usize> {
        let mut waits = Vec::new();
        list_objects(&mut waits);
        let mut objects: Vec<_> = waits.iter().map(|wait| wait.object).collect();
        objects.sort_unstable();
        objects
    }

    fn objects(count: usize) -> Vec<Pin<Box<Listed<Object>>>> {
        let new = (0..count).map(|n| Box::pin(Listed::new(Object(n))));
        new.inspect(|object| object.as_ref().join()).collect()
    }

    #[test]
    fn objects_are_listed_from_join_to_drop() {
        let unlisted = Box::pin(Listed::new(Object(7)));
        let mut objects = objects(5);
        objects[0].as_ref().join();
        assert_eq!(listed(), [0, 1, 2, 3, 4]);
        for (dropped, left) in [
            (1, vec![0, 2, 3, 4]),
            (0, vec![2, 3, 4]),
            (2, vec![2, 3]),
            (1, vec![2]),
            (0, vec![]),
        ] {
            objects.remove(dropped);
            assert_eq!(listed(), left);
        }
        drop(unlisted);
    }

    #[test]
    fn the_list_shrinks_after_a_burst() {
        let capacity = || OBJECTS.with_borrow(Vec::capacity);
        let mut burst = objects(100_000);
        assert!(capacity() >= 100_000);
        let last = burst.swap_remove(50_000);
        drop(burst);
        assert_eq!(listed(), [50_000]);
        assert!(capacity() <= 2 * KEPT);
        drop(last);
        assert_eq!(listed(), []);
    }

    #[test]
    fn objects_may_outlive_the_list_at_the_end_of_a_thread() {
        thread_local! {
            static KEPT: RefCell<Vec<Pin<Box<Listed<Object>>>>> =
                const { RefCell::new(Vec::new()) };
        }
        struct JoinsOnDrop(RefCell<Vec<Pin<Box<Listed<Object>>>>>);
        impl Drop for JoinsOnDrop {
            fn drop(&mut self) {
                self.0.borrow_mut().extend(objects(3));
            }
        }
        thread_local! {
            static LATE: JoinsOnDrop = const { JoinsOnDrop(RefCell::new(Vec::new())) };
        }
        for is_listed_first in [true, false] {
            let thread = std::thread::spawn(move || {
                if is_listed_first {
                    objects(1);
                }
                LATE.with(|late| late.0.borrow_mut().extend(objects(1)));
                KEPT.with_borrow_mut(|kept| kept.extend(objects(4)));
                listed().len()
            });
            assert_eq!(thread.join().unwrap(), 5);
        }
        assert_eq!(listed(), iter::empty::<usize>().collect::<Vec<_>>());
    }
}
