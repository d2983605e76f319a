//! zbus against a session bus. It runs as it is, with two threads of its own for the socket.
//! `internal_executor(false)` lets its tasks run in a task of windlass.

use windlass_ecosystem::service_or_skip;
use windlass_ecosystem::services::Service;
use zbus::connection::Builder;

struct Harbour {
    ships: u32,
}

#[zbus::interface(name = "dev.windlass.Harbour")]
impl Harbour {
    async fn moor(&mut self, name: &str) -> String {
        windlass::time::sleep(std::time::Duration::from_millis(1)).await;
        self.ships += 1;
        format!("{name} is ship {}", self.ships)
    }
}

#[test]
fn an_object_is_served_and_called() {
    let (_bus, address) = service_or_skip!(Service::dbus());
    windlass::block_on(async {
        let server = Builder::address(&*address)
            .unwrap()
            .name("dev.windlass.Harbour")
            .unwrap()
            .serve_at("/harbour", Harbour { ships: 0 })
            .unwrap()
            .internal_executor(false)
            .build()
            .await
            .unwrap();
        // The tasks of the connection run here, so the object can use timers of windlass.
        let executor = server.executor().clone();
        let _ticks = windlass::spawn(async move {
            loop {
                executor.tick().await;
            }
        });

        let client = Builder::address(&*address).unwrap().build().await.unwrap();
        for number in 1..=3 {
            let reply = client
                .call_method(
                    Some("dev.windlass.Harbour"),
                    "/harbour",
                    Some("dev.windlass.Harbour"),
                    "Moor",
                    &"Windlass",
                )
                .await
                .unwrap();
            let text: String = reply.body().deserialize().unwrap();
            assert_eq!(text, format!("Windlass is ship {number}"));
        }
    });
}
