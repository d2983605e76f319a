//! Crates that require tokio's runtime, in tasks of windlass: `windlass::tokio::block_on` runs both
//! on one thread.

use std::cell::Cell;
use std::rc::Rc;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Row};
use windlass::spawn;
use windlass_ecosystem::service_or_skip;
use windlass_ecosystem::services::Service;

/// The thread of the caller, in a future.
fn thread() -> std::thread::ThreadId {
    std::thread::current().id()
}

#[test]
fn sqlx_queries_through_its_pool() {
    let server = service_or_skip!(Service::postgres());
    let (host, port) = (server.addr.ip().to_string(), server.addr.port());
    windlass::tokio::block_on(async {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&host)
            .port(port);
        let options = options.username("postgres").database("postgres");
        let pool = PgPoolOptions::new()
            .max_connections(3)
            .connect_with(options)
            .await
            .unwrap();
        sqlx::query("create table ships (name text, masts int4)")
            .execute(&pool)
            .await
            .unwrap();

        // The tasks are windlass's, and share state by `Rc`.
        let inserted = Rc::new(Cell::new(0));
        let tasks = (0..20).map(|number| {
            let (pool, inserted) = (pool.clone(), inserted.clone());
            spawn(async move {
                let insert = sqlx::query("insert into ships values ($1, $2)");
                let insert = insert.bind("Windlass").bind(number);
                let rows = insert.execute(&pool).await.unwrap().rows_affected();
                inserted.set(inserted.get() + rows);
            })
        });
        join_all(tasks).await;
        assert_eq!(inserted.get(), 20);

        let rows = sqlx::query("select masts from ships order by masts").fetch(&pool);
        let masts: Vec<i32> = rows
            .map_ok(|row| row.get::<i32, _>(0))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(masts, (0..20).collect::<Vec<i32>>());

        // A transaction that is dropped is rolled back, before the connection is used again.
        let mut connection = pool.acquire().await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        sqlx::query("delete from ships")
            .execute(&mut *transaction)
            .await
            .unwrap();
        drop(transaction);
        drop(connection);
        let count = sqlx::query("select count(*) from ships")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(count.get::<i64, _>(0), 20);

        // A pool whose connections are in use waits with tokio's timer.
        let in_use = join_all((0..3).map(|_| pool.acquire())).await;
        assert!(in_use.iter().all(Result::is_ok));
        let limit = std::time::Duration::from_millis(20);
        assert!(
            windlass::time::timeout(limit, pool.acquire())
                .await
                .is_err()
        );
        drop(in_use);
        pool.close().await;
    });
}

#[test]
fn reqwest_fetches_from_nginx() {
    let server = service_or_skip!(Service::nginx(|addr, _| {
        format!(r#"server {{ listen {addr}; location / {{ return 200 "$connection"; }} }}"#)
    }));
    let url = format!("http://{}/", server.addr);
    windlass::tokio::block_on(async {
        let client = reqwest::Client::new();
        let requests = (0..20).map(|_| {
            let request = client.get(&url);
            spawn(async move {
                let response = request
                    .timeout(std::time::Duration::from_secs(60))
                    .send()
                    .await;
                (thread(), response.unwrap().text().await.unwrap())
            })
        });
        let responses = join_all(requests).await;
        assert!(responses.iter().all(|(on, _)| *on == thread()));
        // Sequential requests share a connection.
        let first = client.get(&url).send().await.unwrap().text().await.unwrap();
        let second = client.get(&url).send().await.unwrap().text().await.unwrap();
        assert_eq!(first, second);
    });
}

#[test]
fn async_nats_publishes_subscribes_and_answers() {
    let server = service_or_skip!(Service::nats());
    windlass::tokio::block_on(async {
        let client = async_nats::connect(server.addr.to_string()).await.unwrap();
        let mut requests = client.subscribe("harbour").await.unwrap();
        client.flush().await.unwrap();
        let answering = client.clone();
        let _server = spawn(async move {
            while let Some(request) = requests.next().await {
                let answer = [b"ahoy, ", &request.payload[..]].concat();
                let to = request.reply.unwrap();
                answering.publish(to, answer.into()).await.unwrap();
            }
        });
        let answers = (0..100).map(|number| client.request("harbour", number.to_string().into()));
        let answers = join_all(answers).await;
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap().payload, format!("ahoy, {number}"));
        }
        client.drain().await.unwrap();
    });
}
