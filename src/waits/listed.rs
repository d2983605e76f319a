//! The objects of a thread that may have waiters.

use std::cell::Cell;
use std::fmt;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::offset_of;
use std::ops::Deref;
use std::panic::RefUnwindSafe;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;

use windlass_executor::TaskId;

use super::{FacadeGroup, FacadeSource, FacadeWait};

/// An object that lists its waits. It only reads, and runs no user code.
pub(crate) trait ListWaits {
    /// The kind of object, for readers outside of the process.
    fn kind(&self) -> ObjectKind {
        ObjectKind::Other
    }

    /// The part of the object that readers outside of the process read, which is inside of it.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).expose_provenance()
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        let _ = waits;
    }

    /// Adds the group, if the object is one.
    fn list_group(&self, groups: &mut Vec<FacadeGroup>) {
        let _ = groups;
    }

    /// Adds the descriptor, if the object labels one.
    fn list_source(&self, sources: &mut Vec<FacadeSource>) {
        let _ = sources;
    }

    /// Adds the task that receives jobs, and the number of `Remote`s beside the runtime's own, if
    /// the object is such a task.
    fn list_job_receiver(&self, receivers: &mut Vec<(TaskId, usize)>) {
        let _ = receivers;
    }
}

/// The kinds of objects that readers outside of the process know by their numbers.
#[repr(u8)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "some kinds exist on Linux alone")
)]
pub(crate) enum ObjectKind {
    Other,
    /// A queue of waiters.
    Queue,
    /// A channel for many values.
    Channel,
    /// A channel for one value.
    Oneshot,
    /// A group of tasks.
    Group,
    /// A scope with children.
    Scope,
    /// A descriptor with a purpose.
    Source,
    /// The task that receives the jobs of other threads.
    JobReceiver,
    /// The waits of a ring of file operations.
    Ring,
}

/// Where the distance to the object, its kind and the next node are in a node.
pub(crate) const NODE_OFFSETS: [usize; 3] = [
    offset_of!(Node, distance),
    offset_of!(Node, kind),
    offset_of!(Node, next),
];

/// Returns the address of this thread's first node, for readers outside of the process.
pub(crate) fn first_address() -> usize {
    FIRST.with(|first| std::ptr::from_ref(first).expose_provenance())
}

/// An object that is in the list of its thread from [`join`](Listed::join) until it is dropped.
pub(crate) struct Listed<T> {
    node: Node,
    object: T,
    /// An object that moves would leave its address in the list.
    _pinned: PhantomPinned,
    /// The list is the thread's.
    _not_send: PhantomData<Rc<()>>,
}

/// The links of an object, which cost a join and a drop a few instructions each.
struct Node {
    /// The object that the node is part of. `None` outside of the list.
    object: Cell<Option<NonNull<dyn ListWaits>>>,
    previous: Cell<Option<Pointer>>,
    next: Cell<Option<Pointer>>,
    /// The distance to what readers outside of the process read, and its kind.
    distance: Cell<u32>,
    kind: Cell<ObjectKind>,
}

thread_local! {
    /// A value without a destructor, which objects reach while the thread ends.
    static FIRST: Cell<Option<Pointer>> = const { Cell::new(None) };
}

impl<T> Listed<T> {
    pub(crate) const OBJECT_OFFSET: usize = offset_of!(Listed<T>, object);

    pub(crate) const fn new(object: T) -> Self {
        Listed {
            node: Node {
                object: Cell::new(None),
                previous: Cell::new(None),
                next: Cell::new(None),
                distance: Cell::new(0),
                kind: Cell::new(ObjectKind::Other),
            },
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
        let this = self.get_ref();
        if this.node.object.get().is_none() {
            let object = NonNull::from(&this.object);
            let distance = this.object.address().wrapping_sub(this.address());
            this.node.distance.set(distance as u32); // within the value
            this.node.kind.set(this.object.kind());
            this.node.object.set(Some(object));
            let pointer = Some(Pointer(NonNull::from(&this.node)));
            let next = FIRST.replace(pointer);
            this.node.next.set(next);
            if let Some(next) = &next {
                next.node().previous.set(pointer);
            }
        }
    }
}

impl<T> Listed<T> {
    /// The address of the node.
    fn address(&self) -> usize {
        std::ptr::from_ref(&self.node).expose_provenance()
    }
}

impl Node {
    #[inline]
    fn leave(&self) {
        let (previous, next) = (self.previous.get(), self.next.get());
        match &previous {
            Some(previous) => previous.node().next.set(next),
            None => FIRST.set(next),
        }
        if let Some(next) = &next {
            next.node().previous.set(previous);
        }
    }
}

/// Lists the waits of this thread's objects.
pub(crate) fn list_objects(waits: &mut Vec<FacadeWait>) {
    for_each(|object| object.list_waits(waits));
}

/// Lists this thread's groups.
pub(crate) fn list_groups(groups: &mut Vec<FacadeGroup>) {
    for_each(|object| object.list_group(groups));
}

/// Lists the labelled file descriptors of this thread.
pub(crate) fn list_sources() -> Vec<FacadeSource> {
    let mut sources = Vec::new();
    for_each(|object| object.list_source(&mut sources));
    sources
}

/// Lists the tasks of this thread that receive jobs, each with the number of `Remote`s beside the
/// runtime's own.
pub(crate) fn list_job_receivers() -> Vec<(TaskId, usize)> {
    let mut receivers = Vec::new();
    for_each(|object| object.list_job_receiver(&mut receivers));
    receivers
}

fn for_each(mut f: impl FnMut(&dyn ListWaits)) {
    let mut next = FIRST.get();
    while let Some(pointer) = &next {
        pointer.object().into_iter().for_each(&mut f);
        next = pointer.node().next.get();
    }
}

/// The address of a node in the list.
/// `repr(transparent)`, so that `None` is a null pointer for readers outside of the process.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Pointer(NonNull<Node>);

impl Pointer {
    #[inline]
    fn node(&self) -> &Node {
        // SAFETY: `join` got the node by a shared pinned reference. So the node stays at its
        // address, and is only accessed by shared references, until its drop begins. The drop
        // removes the node from the list first, on this thread, because it is not `Send`. A pointer
        // in the list is thus valid, and no other one is used.
        unsafe { self.0.as_ref() }
    }

    fn object(&self) -> Option<&dyn ListWaits> {
        // SAFETY: as for the node, which is a part of the same value.
        self.node().object.get().map(|it| unsafe { it.as_ref() })
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
        if self.node.object.get().is_some() {
            self.node.leave();
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
    use std::cell::RefCell;
    use std::task::Waker;
    use std::thread;

    use super::*;
    use crate::waits::{WaitKind, WakerId};

    struct Object(usize);

    impl ListWaits for Object {
        fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
            waits.push(FacadeWait {
                waker: WakerId::of(Waker::noop()),
                kind: WaitKind::Event,
                object: self.0,
                created_at: None,
                awaited_at: None,
            });
        }
    }

    fn listed() -> Vec<usize> {
        let mut waits = Vec::new();
        list_objects(&mut waits);
        waits.iter().map(|wait| wait.object).collect()
    }

    type Objects = Vec<Pin<Box<Listed<Object>>>>;

    fn objects(count: usize) -> Objects {
        let new = (0..count).map(|n| Box::pin(Listed::new(Object(n))));
        new.inspect(|object| object.as_ref().join()).collect()
    }

    #[test]
    fn objects_are_listed_from_join_to_drop() {
        let unlisted = Box::pin(Listed::new(Object(7)));
        let mut objects = objects(5);
        objects[0].as_ref().join();
        assert_eq!(listed(), [4, 3, 2, 1, 0]);
        objects.remove(1);
        assert_eq!(listed(), [4, 3, 2, 0]);
        objects.remove(0);
        assert_eq!(listed(), [4, 3, 2]);
        objects.pop();
        assert_eq!(listed(), [3, 2]);
        objects.push(unlisted);
        objects[2].as_ref().join();
        assert_eq!(listed(), [7, 3, 2]);
        drop(objects);
        assert_eq!(listed(), []);
    }

    #[test]
    fn objects_join_and_leave_while_their_thread_ends() {
        thread_local! {
            static LATE: Late = const { Late(RefCell::new(Vec::new())) };
        }
        struct Late(RefCell<Objects>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.borrow_mut().extend(objects(3));
                assert_eq!(listed(), [2, 1, 0, 1, 0]);
            }
        }
        let thread = thread::spawn(|| LATE.with(|late| late.0.borrow_mut().extend(objects(2))));
        thread.join().unwrap();
        assert_eq!(listed(), []);
    }
}
