//! The stack that creating a coroutine with a large body takes, also in debug builds.

use windlass::coroutine::{AsyncCoroutine, Co, Coroutine, State};
use windlass_executor::block_on;

use crate::large::{Large, with_stack_for};

#[test]
fn a_coroutine_with_a_large_body_takes_few_copies_of_it() {
    fn new() -> Coroutine<'static, (), u8, u8> {
        let large = Large::new();
        Coroutine::new(async move |co: &mut Co<'_, (), u8>, ()| {
            co.yield_(large.0[0]).await;
            large.0[1]
        })
    }
    fn new_async() -> AsyncCoroutine<'static, (), u8, u8> {
        let large = Large::new();
        AsyncCoroutine::new(async move |co: &mut Co<'_, (), u8>, ()| {
            co.yield_(large.0[0]).await;
            large.0[1]
        })
    }
    with_stack_for(5, || assert_eq!(new().resume(()), State::Yielded(7)));
    with_stack_for(6, || {
        assert_eq!(block_on(new_async().send(())), State::Yielded(7))
    });
}
