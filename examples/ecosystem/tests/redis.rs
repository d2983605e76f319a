//! redis-rs against a Redis server.

use futures::future::join_all;
use redis::{AsyncCommands, pipe};
use windlass_ecosystem::redis::connect;
use windlass_ecosystem::service_or_skip;
use windlass_ecosystem::services::{Service, threads};

#[test]
fn commands_and_pipelines_on_one_thread() {
    let server = service_or_skip!(Service::redis());
    windlass::block_on(async {
        let before = threads();
        let mut redis = connect(server.addr).await.unwrap();
        let () = redis.set("ship", "windlass").await.unwrap();
        let ship: String = redis.get("ship").await.unwrap();
        assert_eq!(ship, "windlass");

        // Clones send their commands over the one connection.
        let counts = (0..100).map(|_| {
            let mut redis = redis.clone();
            windlass::spawn(async move { redis.incr::<_, _, u32>("count", 1).await.unwrap() })
        });
        let mut counts: Vec<u32> = join_all(counts).await;
        counts.sort();
        assert_eq!(counts, (1..=100).collect::<Vec<u32>>());

        let (first, second): (String, u32) = pipe()
            .get("ship")
            .get("count")
            .query_async(&mut redis)
            .await
            .unwrap();
        assert_eq!((&*first, second), ("windlass", 100));
        assert_eq!(threads(), before);
    });
}

#[test]
fn a_blocking_command_is_dropped_at_a_time_limit() {
    let server = service_or_skip!(Service::redis());
    windlass::block_on(async {
        let mut redis = connect(server.addr).await.unwrap();
        let limit = std::time::Duration::from_millis(20);
        let pop = redis.blpop::<_, (String, String)>("empty", 3600.0);
        assert!(windlass::time::timeout(limit, pop).await.is_err());
    });
}
