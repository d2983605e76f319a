// What promises, errors, panics, the end of a process and workers do across the two languages.

import assert from 'node:assert/strict'
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { setImmediate as iteration, setTimeout as timeout } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'

const threads = () => readdirSync('/proc/self/task').length
const before = threads()
const windlass = createRequire(import.meta.url)(process.env.MODULE)
const added = threads() - before

const folder = mkdtempSync(path.join(tmpdir(), 'windlass-node-'))
after(() => rmSync(folder, { recursive: true }))

function markerFile(name) {
  const marker = path.join(folder, name)
  writeFileSync(marker, '')
  return marker
}

async function collected(reference) {
  for (let round = 0; round < 100 && reference.deref(); round++) {
    await iteration() // `deref` keeps the value until then
    globalThis.gc()
  }
  return reference.deref() === undefined
}

// Rust futures in JavaScript.

test('the module can be loaded twice', async () => {
  const require = createRequire(import.meta.url)
  delete require.cache[process.env.MODULE]
  const other = require(process.env.MODULE)
  assert.notEqual(other, windlass)
  const both = [windlass, other].map(async (one) => {
    await one.sleep(1)
    await one.call(() => windlass.busy(1000))
    return one.call(() => other.sleep(1))
  })
  assert.deepEqual(await Promise.all(both), [undefined, undefined])
})

test('the module starts no thread', () => assert.equal(added, 0))

test('values of JavaScript are held over an await', async () => {
  const object = { name: 'rope' }
  assert.equal(await windlass.delayed(5, object), object)
  for (const value of [undefined, null, 7, 'rope', 7n, true, Symbol.iterator]) {
    assert.equal(await windlass.delayed(1, value), value)
  }
  const callback = () => {}
  assert.equal(await windlass.ready(callback), callback)
})

test('a held value is released', async () => {
  const reference = await (async () => {
    const object = { name: 'rope' }
    await windlass.delayed(1, object)
    return new WeakRef(object)
  })()
  assert.ok(await collected(reference))
})

test('a timer is never early', async () => {
  for (let round = 0; round < 10; round++) {
    const start = performance.now()
    assert.equal(await windlass.sleep(10), undefined)
    assert.ok(performance.now() - start >= 10)
  }
})

test('futures run at the same time, also those of libuv', async () => {
  const start = performance.now()
  const sleeps = Array.from({ length: 100 }, () => windlass.sleep(200))
  await Promise.all([...sleeps, windlass.busy(1000), timeout(200)])
  assert.ok(performance.now() - start < 10_000) // one after the other take 20 s
})

test('a busy guest leaves the loop its events', async () => {
  let events = 0
  const interval = setInterval(() => events++, 1)
  await windlass.busy(100_000)
  clearInterval(interval)
  assert.ok(events > 0)
})

test('an error of Rust rejects the promise', async () => {
  await assert.rejects(windlass.fail('no such rope'), { name: 'Error', message: 'no such rope' })
  await assert.rejects(windlass.connect('127.0.0.1', 1), { code: 'ConnectionRefused' })
  assert.throws(() => windlass.sleep('soon'), /napi_get_value_double/)
  assert.throws(() => windlass.sleep(-1))
})

test('a panic rejects the promise', async () => {
  await assert.rejects(windlass.panic('a rope broke'), { code: 'PANIC', message: 'a rope broke' })
  assert.equal(await windlass.ready(8), 8)
})

test('microtasks and nextTick run after a turn, before the next event', async () => {
  const order = []
  const first = windlass.call(async () => {
    process.nextTick(() => order.push('tick'))
    await null
    order.push('microtask')
    setImmediate(() => order.push('immediate'))
  })
  await first
  await iteration()
  assert.deepEqual(order, ['tick', 'microtask', 'immediate'])
})

test('sockets', async () => {
  const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  const connect = () => windlass.connect('127.0.0.1', port)
  const connections = await Promise.all(Array.from({ length: 20 }, connect))
  for (let round = 0; round < 5; round++) {
    const data = Buffer.alloc(100_000, round)
    const echoes = await Promise.all(connections.map((one) => windlass.echo(one, data)))
    assert.ok(echoes.every((echo) => echo.equals(data)))
  }
  assert.throws(() => windlass.echo({}, Buffer.alloc(1)))
  server.close()
  connections.length = 0
  while (server.connections !== 0 && (await new Promise((done) => server.getConnections((_, n) => done(n)))) > 0) {
    globalThis.gc() // closes them
    await iteration()
  }
})

// Promises of JavaScript in Rust.

test('a promise is awaited from Rust', async () => {
  const object = { name: 'rope' }
  assert.equal(await windlass.call(async () => { await timeout(5); return object }), object)
  assert.equal(await windlass.call(() => object), object)
  assert.equal(await windlass.call(() => ({ then: (resolve) => resolve(5) })), 5)
})

test('the store of AsyncLocalStorage', async () => {
  const storage = new AsyncLocalStorage()
  await storage.run(7, async () => {
    await windlass.sleep(1)
    assert.equal(storage.getStore(), 7)
    const read = async () => storage.getStore()
    assert.equal(await windlass.call(read), undefined) // a turn has none
    assert.equal(await windlass.call(AsyncResource.bind(read)), 7)
  })
})

test('nested awaits', async () => {
  const down = async (depth) => depth && 1 + (await windlass.call(() => down(depth - 1)))
  assert.equal(await down(50), 50)
})

test('an exception reaches Rust and returns', async () => {
  const error = new RangeError('no such rope')
  const isSame = (caught) => caught === error
  await assert.rejects(windlass.call(async () => { await iteration(); throw error }), isSame)
  await assert.rejects(windlass.call(() => { throw error }), isSame)
  await assert.rejects(windlass.call(() => Promise.reject(7)), (caught) => caught === 7)
  await assert.rejects(windlass.call('no function'), /napi_call_function/)
})

test('a dropped future discards the result', async () => {
  let resolve
  let promise = new Promise((settle) => { resolve = settle })
  await assert.rejects(windlass.callWithin(5, () => promise), { code: 'TIMEOUT' })
  const reference = (() => {
    const object = { name: 'rope' }
    resolve(object)
    return new WeakRef(object)
  })()
  await iteration()
  promise = resolve = undefined
  assert.ok(await collected(reference))
})

test('callbacks and promises do not leak', async () => {
  const rounds = async () => {
    for (let round = 0; round < 2000; round++) {
      await windlass.call(async () => ({ round }))
      await windlass.ready({ round })
    }
    globalThis.gc()
    await iteration()
    globalThis.gc()
    return process.memoryUsage().heapUsed
  }
  await rounds()
  const before = await rounds()
  const after = await rounds()
  assert.ok(after - before < 200_000, `${after - before} bytes more`) // an object takes 50 or more
})

// The end of a process and of a worker.

async function run(program, wait = () => {}) {
  const child = spawn(process.execPath, ['-e', `const windlass = require(process.env.MODULE); ${program}`])
  let [out, error] = ['', '']
  child.stdout.on('data', (data) => { out += data })
  child.stderr.on('data', (data) => { error += data })
  const limit = setTimeout(() => child.kill('SIGKILL'), 20_000)
  await wait(child)
  const [code, killed] = await once(child, 'close')
  clearTimeout(limit)
  return { code, killed, out, error }
}

test('an idle guest lets the process end', async () => {
  assert.deepEqual(await run(''), { code: 0, killed: null, out: '', error: '' })
  const program = 'windlass.sleep(1).then(() => console.log("slept"))'
  assert.deepEqual(await run(program), { code: 0, killed: null, out: 'slept\n', error: '' })
})

test('a pending future keeps the process alive', async () => {
  const started = async (child) => {
    await once(child.stdout, 'data')
    await timeout(100) // a process that doesn't wait ends meanwhile
    assert.equal(child.exitCode, null)
    child.kill()
  }
  const { killed } = await run('windlass.pending(); console.log("started")', started)
  assert.equal(killed, 'SIGTERM')
})

test('the end of the loop drops the tasks', async () => {
  const marker = markerFile('process')
  const program = `windlass.detachPending(${JSON.stringify(marker)}); windlass.sleep(1)`
  assert.deepEqual(await run(program), { code: 0, killed: null, out: '', error: '' })
  assert.ok(!existsSync(marker))
})

test('Node runs no hooks at process.exit and after an exception', async () => {
  for (const [end, status] of [['process.exit(3)', 3], ['throw new Error("thrown")', 1]]) {
    const marker = markerFile(`exit-${status}`)
    const program = `windlass.detachPending(${JSON.stringify(marker)});
      windlass.sleep(1).then(() => { ${end} })`
    const { code, killed } = await run(program)
    assert.deepEqual([code, killed], [status, null])
    assert.ok(existsSync(marker)) // the task wasn't dropped
  }
})

test('process.exit in a turn', async () => {
  const { code, killed } = await run('windlass.call(() => process.exit(3))')
  assert.deepEqual([code, killed], [3, null])
})

test('an unhandled rejection ends the process', async () => {
  const { code, error } = await run('windlass.fail("no such rope")')
  assert.equal(code, 1)
  assert.match(error, /no such rope/)
})

const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads')
  const windlass = require(process.env.MODULE)
  ;(async () => {
    if (workerData.marker) windlass.detachPending(workerData.marker)
    for (let round = 0; round < 20; round++) {
      await windlass.sleep(1)
      await windlass.call(() => windlass.sleep(1))
    }
    if (workerData.pending) windlass.pending()
    parentPort.postMessage(workerData.number)
  })()`

test('each worker has a runtime', async () => {
  const workers = Array.from({ length: 4 }, async (_, number) => {
    const marker = markerFile(`worker-${number}`)
    const worker = new Worker(WORKER, { eval: true, workerData: { number, marker } })
    const [[message], [code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.deepEqual([message, code], [number, 0])
    assert.ok(!existsSync(marker))
  })
  await Promise.all(workers)
})

test('a terminated worker drops its tasks', async () => {
  for (let number = 0; number < 5; number++) {
    const marker = markerFile(`terminated-${number}`)
    const workerData = { number, marker, pending: true }
    const worker = new Worker(WORKER, { eval: true, workerData })
    await once(worker, 'message')
    assert.equal(await worker.terminate(), 1)
    assert.ok(!existsSync(marker))
  }
  assert.equal(await windlass.ready(1), 1)
})
