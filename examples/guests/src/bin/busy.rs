//! 60 frames per second and 1,000 busy sockets, on one thread.
//!
//! ```sh
//! cargo run --release -p windlass-guests --bin busy
//! cargo run --release -p windlass-guests --bin busy -- --wrong
//! ```
//!
//! `q` quits, and every other key is counted, which shows how responsive the program is. With
//! `--wrong` each request makes a blocking call of 20 ms, and the program stops responding.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use futures::{AsyncReadExt, AsyncWriteExt};
use ratatui::crossterm::event::{self, Event, KeyCode};
use ratatui::prelude::*;
use ratatui::widgets::{Block, Gauge, Padding, Paragraph, Sparkline};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::sleep;
use windlass::{Runtime, spawn};

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// Both ends of each are in this process.
const CONNECTIONS: usize = 500;

/// Duration of a blocking call, for example a query of a nearby database.
const BLOCKING: Duration = Duration::from_millis(20);

fn main() -> anyhow::Result<()> {
    let options = Options::parse()?;
    let runtime = Runtime::new()?;
    let requests = Rc::new(Cell::new(0));
    runtime.block_on(start(requests.clone(), options.wrong))?;
    let mut terminal = ratatui::init();
    let result = show(&mut terminal, &runtime, &requests, &options);
    ratatui::restore();
    result
}

struct Options {
    wrong: bool,
    /// Ends the program by itself.
    seconds: f64,
}

impl Options {
    fn parse() -> anyhow::Result<Options> {
        use lexopt::prelude::*;
        let (mut wrong, mut seconds) = (false, f64::INFINITY);
        let mut parser = lexopt::Parser::from_env();
        while let Some(option) = parser.next()? {
            match option {
                Long("wrong") => wrong = true,
                Long("seconds") => seconds = parser.value()?.parse()?,
                _ => bail!(
                    "{} (there are --wrong and --seconds N)",
                    option.unexpected()
                ),
            }
        }
        Ok(Options { wrong, seconds })
    }
}

/// The loop of the program. It draws a frame, then runs tasks until the next frame is due.
fn show(
    terminal: &mut ratatui::DefaultTerminal,
    runtime: &Runtime,
    requests: &Cell<usize>,
    options: &Options,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let (mut next, mut screen) = (start, Screen::default());
    while start.elapsed().as_secs_f64() < options.seconds {
        screen.count_frame(requests.get());
        terminal.draw(|frame| screen.draw(frame, options))?;
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.code == KeyCode::Char('q') => return Ok(()),
                Event::Key(_) => screen.keys += 1,
                _ => {}
            }
        }
        next += FRAME;
        if next < Instant::now() {
            next = Instant::now() + FRAME; // missed frames are skipped
        }
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            runtime.turn(Some(left))?;
        }
    }
    Ok(())
}

/// Connects all clients, and leaves their tasks in the runtime.
async fn start(requests: Rc<Cell<usize>>, wrong: bool) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    for _ in 0..CONNECTIONS {
        let (near, far) = futures::try_join!(TcpStream::connect(addr), listener.accept())?;
        spawn(ask(near)).detach();
        spawn(answer(far.0, requests.clone(), wrong)).detach();
    }
    Ok(())
}

async fn ask(mut stream: TcpStream) -> io::Result<()> {
    let mut text = [7; 100];
    loop {
        sleep(Duration::from_millis(fastrand::u64(10..70))).await;
        stream.write_all(&text).await?;
        stream.read_exact(&mut text).await?;
    }
}

async fn answer(mut stream: TcpStream, requests: Rc<Cell<usize>>, wrong: bool) -> io::Result<()> {
    let mut text = [0; 100];
    loop {
        stream.read_exact(&mut text).await?;
        if wrong {
            thread::sleep(BLOCKING); // blocks the sockets, keys and frames
        }
        stream.write_all(&text).await?;
        requests.set(requests.get() + 1);
    }
}

#[derive(Default)]
struct Screen {
    /// The times of the frames of the last seconds, with the number of requests until then.
    frames: VecDeque<(Instant, usize)>,
    /// The intervals between frames (ms), the newest first.
    gaps: Vec<u64>,
    number: usize,
    keys: usize,
}

/// A delay of a frame (ms) that is clearly visible.
const LATE: u64 = 100;

impl Screen {
    fn count_frame(&mut self, requests: usize) {
        let now = Instant::now();
        if let Some((last, _)) = self.frames.back() {
            let gap = now.duration_since(*last).as_millis() as u64;
            self.gaps.insert(0, gap);
        }
        self.gaps.truncate(200);
        self.frames.push_back((now, requests));
        let is_old = |frame: &(Instant, usize)| now.duration_since(frame.0).as_secs_f64() > 2.0;
        while self.frames.len() > 2 && is_old(&self.frames[0]) {
            self.frames.pop_front();
        }
        self.number += 1;
    }

    /// Frames and requests per second.
    fn rates(&self) -> [f64; 2] {
        let (first, last) = (self.frames[0], self.frames[self.frames.len() - 1]);
        let time = last
            .0
            .duration_since(first.0)
            .as_secs_f64()
            .max(FRAME.as_secs_f64());
        let counts = [self.frames.len() - 1, last.1 - first.1];
        counts.map(|count| count as f64 / time)
    }

    fn draw(&self, frame: &mut Frame<'_>, options: &Options) {
        let title = match options.wrong {
            false => " 1,000 busy sockets and this screen, on one thread ",
            true => " the same, wrong: each request makes a blocking call of 20 ms ",
        };
        let block = Block::bordered()
            .title(title.bold())
            .padding(Padding::proportional(1));
        let inside = block.inner(frame.area());
        frame.render_widget(block, frame.area());
        let heights = [1, 1, 3, 1, 2, 1, 5, 1, 1].map(Constraint::Length);
        let [status, _, fps, _, numbers, label, graph, _, ball] =
            Layout::vertical(heights).areas(inside);

        let [frames, requests] = self.rates();
        let gaps = &self.gaps;
        let gap = gaps.first().copied().unwrap_or(0);
        frame.render_widget(verdict(gap), status);
        let gauge = Gauge::default()
            .ratio((frames / 60.0).min(1.0))
            .label(format!("{frames:.1} frames a second"))
            .gauge_style(colour(gap));
        frame.render_widget(gauge.block(Block::bordered()), fps);
        let text = format!(
            "requests a second  {requests:>7.0}        keys pressed  {}\n\
             worst frame        {:>7} ms",
            self.keys,
            gaps.iter().max().unwrap_or(&0),
        );
        frame.render_widget(Paragraph::new(text), numbers);
        frame.render_widget("time between frames, the newest on the left:".dim(), label);
        frame.render_widget(Sparkline::default().data(gaps.iter()).max(100), graph);
        let width = ball.width.saturating_sub(1).max(1) as usize;
        let place = self.number % (2 * width);
        let column = place.min(2 * width - place);
        frame.render_widget(format!("{:column$}●", "").yellow(), ball);
    }
}

/// The mark of a frame that came that many milliseconds after the previous one.
fn verdict(gap: u64) -> Span<'static> {
    let words = match gap < LATE {
        true => "  responding  ".to_owned(),
        false => format!("  not responding: {gap} ms without a frame  "),
    };
    words.bold().white().bg(colour(gap))
}

fn colour(gap: u64) -> Color {
    if gap < LATE { Color::Green } else { Color::Red }
}
