//! The observers of the executors of a thread. An executor has one, and several parts of this crate
//! observe.

use std::cell::RefCell;
use std::rc::Rc;

use windlass_executor::{Executor, Observer, TaskId, observe_all};

type Observers = Vec<Rc<dyn Observer>>;

thread_local!(static OBSERVERS: RefCell<Observers> = const { RefCell::new(Vec::new()) });

/// Makes `observer` observe all executors of this thread, also those that are created later.
pub(crate) fn add(observer: Rc<dyn Observer>) {
    OBSERVERS.with_borrow_mut(|observers| observers.push(observer));
    observe_all(all());
}

/// Stops what [`add`] has started.
pub(crate) fn remove(observer: &Rc<dyn Observer>) {
    OBSERVERS.with_borrow_mut(|observers| observers.retain(|it| !Rc::ptr_eq(it, observer)));
    observe_all(all());
}

/// Makes the observers of this thread observe a new executor.
#[inline]
pub(crate) fn attach(executor: &Executor) {
    let is_observed = OBSERVERS.try_with(|observers| !observers.borrow().is_empty());
    if is_observed.unwrap_or(false) {
        executor.observe(all());
    }
}

fn all() -> Option<Rc<dyn Observer>> {
    OBSERVERS.with_borrow(|observers| match &observers[..] {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(Rc::new(Several(several.to_vec())) as _),
    })
}

struct Several(Vec<Rc<dyn Observer>>);

impl Observer for Several {
    fn polling(&self, task: TaskId) {
        self.0.iter().for_each(|observer| observer.polling(task));
    }

    fn polled(&self, task: TaskId) {
        self.0
            .iter()
            .rev()
            .for_each(|observer| observer.polled(task));
    }
}
