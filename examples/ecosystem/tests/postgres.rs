//! tokio-postgres against a PostgreSQL server.

use std::time::Instant;

use futures::future::join_all;
use futures::{StreamExt, join};
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;
use windlass_ecosystem::postgres::{cancel, connect};
use windlass_ecosystem::service_or_skip;
use windlass_ecosystem::services::{Service, threads};

#[test]
fn queries_notifications_and_cancellation_on_one_thread() {
    let server = service_or_skip!(Service::postgres());
    windlass::block_on(async {
        let before = threads();
        let mut config = Config::new();
        config.user("postgres").dbname("postgres");
        let (mut client, mut notifications) = connect(&config, server.addr).await.unwrap();

        // Types, and a transaction that is dropped and so rolled back.
        client
            .batch_execute("create table ships (name text, masts int4)")
            .await
            .unwrap();
        let insert = "insert into ships values ($1, $2)";
        client.execute(insert, &[&"Windlass", &2]).await.unwrap();
        let transaction = client.transaction().await.unwrap();
        transaction
            .execute(insert, &[&"Capstan", &3])
            .await
            .unwrap();
        drop(transaction);
        let rows = client
            .query("select name, masts from ships", &[])
            .await
            .unwrap();
        let ships: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(ships, [("Windlass".to_owned(), 2)]);

        // A hundred queries at once are pipelined over the one connection.
        let square = client.prepare("select $1::int4 * $1").await.unwrap();
        let numbers: Vec<i32> = (0..100).collect();
        let queries = numbers.iter().map(|number| async {
            let row = client.query_one(&square, &[number]).await.unwrap();
            row.get::<_, i32>(0)
        });
        let squares: Vec<i32> = join_all(queries).await;
        assert_eq!(squares[99], 99 * 99);

        client
            .batch_execute("listen harbour; notify harbour, 'ahoy'")
            .await
            .unwrap();
        assert_eq!(notifications.next().await.unwrap().payload(), "ahoy");

        // A query that would take an hour is cancelled over a second connection.
        let token = client.cancel_token();
        let slow = client.batch_execute("select pg_sleep(3600)");
        let (ended, cancelled) = join!(slow, cancel(token, server.addr));
        cancelled.unwrap();
        assert_eq!(ended.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));

        let start = Instant::now();
        for number in 0..1000 {
            client.query_one(&square, &[&number]).await.unwrap();
        }
        eprintln!("{:?} per query", start.elapsed() / 1000);
        assert_eq!(threads(), before);
    });
}
