// Two people chat in two pages of a real browser; a third is in another room; the server is
// started again meanwhile. check_tls_ws.sh runs it:
//
//   node page.cjs <web_chat> <chromium> <screenshot.png> [<certificate> <key>]
//
// It needs puppeteer-core. With a certificate, whoever vouches for it, all goes over TLS.
"use strict";
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const assert = require("node:assert");
const puppeteer = require("puppeteer-core");

const [program, browserPath, picture, ...identity] = process.argv.slice(2);
const ADDRESS = "127.0.0.1:7412";
const PAGE = `${identity.length ? "https" : "http"}://${ADDRESS}/`;
const HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>";

async function startServer() {
  const server = spawn(program, [ADDRESS, ...identity], { stdio: ["ignore", "pipe", "inherit"] });
  await once(server.stdout, "data");
  return server;
}

async function stopServer(server) {
  const ended = once(server, "exit");
  server.kill("SIGTERM");
  const [code] = await ended;
  assert.equal(code, 0, "the server stops in good order");
}

async function join(browser, name, room, scheme) {
  // Of its own each, as pages that nobody looks at are slowed down.
  const page = await (await browser.createBrowserContext()).newPage();
  await page.setViewport({ width: 760, height: 470 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  page.on("pageerror", (error) => { throw error; });
  await page.goto(`${PAGE}#${room}`);
  await page.type("#name", name);
  await page.click("#join button");
  return page;
}

async function say(page, text) {
  await page.type("#text", text);
  await page.click("#say button");
}

const sees = (page, text) =>
  page.waitForFunction(
    (text) => [...document.querySelectorAll("#lines li span")].some((e) => e.textContent === text),
    { timeout: 15_000 }, text);
const lines = (page) => page.$$eval("#lines li span", (all) => all.map((e) => e.textContent));
const status = (page, text) =>
  page.waitForFunction((text) => document.getElementById("status").textContent.includes(text),
    { timeout: 15_000 }, text);

async function chat(browser) {
  let server = await startServer();
  try {
    const ann = await join(browser, "Ann", "harbour", "light");
    await status(ann, "as Ann");
    await say(ann, "Is anybody in the harbour?");
    await sees(ann, "Is anybody in the harbour?");
    const ben = await join(browser, "Ben", "harbour", "dark");
    await sees(ben, "Is anybody in the harbour?");
    const cid = await join(browser, "Cid", "galley", "light");
    await status(cid, "as Cid");
    await say(ben, "Aye, came in with the tide.");
    await sees(ann, "Aye, came in with the tide.");
    console.log("ok: what one page says, the other reads; who comes later gets the history");

    const other = await join(browser, "Ann", "harbour", "light");
    await other.waitForFunction(() => document.getElementById("why").textContent.includes("taken"));
    console.log("ok: a name that is taken is refused, and the page says so");

    await say(ann, HOSTILE);
    await sees(ben, HOSTILE);
    assert.equal(await ben.$eval("#lines", (e) => e.querySelectorAll("img").length), 0);
    assert.match(await ben.title(), /windlass chat/);
    console.log("ok: HTML is shown as text");

    const before = (await lines(ann)).length;
    await stopServer(server);
    await status(ann, "coming back");
    server = await startServer();
    await Promise.all([status(ann, "as Ann"), status(ben, "as Ben"), status(cid, "as Cid")]);
    await say(ben, "The server was away. We weren't.");
    await sees(ann, "The server was away. We weren't.");
    assert.equal((await lines(ann)).length, before + 1, "nothing twice, nothing lost");
    console.log("ok: the pages outlive a restart of the server");

    await say(cid, "Soup is ready.");
    await sees(cid, "Soup is ready.");
    assert.deepEqual(await lines(cid), ["Soup is ready."]);
    assert.ok(!(await lines(ann)).includes("Soup is ready."));
    console.log("ok: rooms don't hear each other");

    if (picture) await ann.screenshot({ path: picture });
    if (picture) await ben.screenshot({ path: picture.replace(".png", "_dark.png") });
  } finally {
    server.kill("SIGKILL");
  }
}

async function main() {
  const browser = await puppeteer.launch({
    executablePath: browserPath,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--ignore-certificate-errors"],
  });
  try {
    await chat(browser);
  } finally {
    await browser.close();
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
