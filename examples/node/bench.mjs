// windlass on Node's thread beside tokio on threads of its own (napi-rs with `tokio_rt`), and no Rust.
//
//     examples/node/bench.sh
//
// Each round measures all in alternating order, each in a process of its own. The table has the medians of the
// rounds, and the ratios are medians of the ratios per round.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import os from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as iteration } from 'node:timers/promises'

const SECONDS = Number(process.env.BENCH_SECONDS ?? 1)
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 9)
const MESSAGE = Buffer.alloc(64, 'x')
const CASES = ['ready', 'promise', 'echo', 'echo, 64 connections', 'echo, busy loop']
const COLUMNS = [
  ['p50', 'p50'], ['p99', 'p99'], ['perSecond', 'awaits/s'], ['cpu', 'CPU per await'],
  ['delay', 'loop delay p99'], ['threads', 'threads'],
]

// Without Rust.
const node = {
  ready: () => iteration(),
  awaitPromise: (promise) => promise,
  async connect(host, port) {
    const socket = net.connect({ host, port, noDelay: true })
    await once(socket, 'connect')
    return socket
  },
  async echo(socket, bytes) {
    socket.write(bytes)
    for (let left = bytes.length; left > 0; left -= (await once(socket, 'data'))[0].length);
  },
}

function functions(way) {
  if (way === 'node') return node
  const module = createRequire(import.meta.url)(process.env[way.toUpperCase()])
  if (way === 'windlass') {
    return { ...module, awaitPromise: (promise) => module.call(() => promise) }
  }
  return { ...module, echo: (connection, bytes) => connection.echo(bytes) }
}

const cpu = () => { const { user, system } = process.cpuUsage(); return user + system }

async function latency(step) {
  for (let n = 0; n < 2000; n++) await step()
  const times = []
  const used = cpu()
  const start = performance.now()
  let now = start
  while (now - start < SECONDS * 1e3) {
    await step()
    const before = now
    now = performance.now()
    times.push((now - before) * 1e3)
  }
  const each = (cpu() - used) / times.length
  times.sort((a, b) => a - b)
  return {
    p50: times[times.length >> 1],
    p99: times[Math.floor(times.length * 0.99)],
    perSecond: times.length / (now - start) * 1e3,
    cpu: each,
  }
}

async function throughput(steps) {
  let count = 0
  const [used, start] = [cpu(), performance.now()]
  await Promise.all(steps.map(async (step) => {
    while (performance.now() - start < SECONDS * 1e3) {
      await step()
      count++
    }
  }))
  return { perSecond: count / (performance.now() - start) * 1e3, cpu: (cpu() - used) / count }
}

async function measure(way, name, port) {
  const { ready, awaitPromise, connect, echo } = functions(way)
  const connection = await connect('127.0.0.1', port)
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  let result
  if (name === 'ready') {
    result = await latency(() => ready(1))
  } else if (name === 'promise') {
    result = await latency(() => awaitPromise(Promise.resolve(1)))
  } else if (name === 'echo') {
    result = await latency(() => echo(connection, MESSAGE))
  } else if (name === 'echo, 64 connections') {
    const connections = await Promise.all(Array.from({ length: 64 }, () => connect('127.0.0.1', port)))
    result = await throughput(connections.map((one) => () => echo(one, MESSAGE)))
  } else {
    let working = true
    const work = () => {
      const start = performance.now()
      while (performance.now() - start < 0.03) {} // 30 µs
      if (working) setImmediate(work)
    }
    work()
    result = await latency(() => echo(connection, MESSAGE))
    working = false
  }
  // The monitor's own timer has an interval of 1 ms.
  return { ...result, delay: Math.max(0, histogram.percentile(99) / 1e3 - 1e3), threads: readdirSync('/proc/self/task').length }
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1]

function shown(key, value) {
  if (value === undefined || Number.isNaN(value)) return ''
  if (key === 'perSecond') return Math.round(value).toLocaleString('en')
  return key === 'threads' ? String(value) : `${value.toFixed(1)} µs`
}

async function main() {
  const server = spawn(process.env.ECHO, ['127.0.0.1:0'])
  try {
    const [line] = await once(server.stdout, 'data')
    const port = String(line).trim().split(':').pop()
    console.log(`Node ${process.versions.node}, ${os.cpus().length} cores, ${ROUNDS} rounds of ${SECONDS} s\n`)
    console.log('| await of | way |', COLUMNS.map(([, title]) => title).join(' | '), '|')
    console.log('|---|---|' + '---:|'.repeat(COLUMNS.length))
    for (const name of CASES) {
      const results = { windlass: [], tokio: [], node: [] }
      for (let round = 0; round < ROUNDS; round++) {
        const ways = Object.keys(results)
        for (const way of round % 2 ? ways.reverse() : ways) {
          const args = [process.argv[1], way, name, port]
          results[way].push(JSON.parse(execFileSync(process.execPath, args)))
        }
      }
      for (const [way, rounds] of Object.entries(results)) {
        const cells = COLUMNS.map(([key]) => shown(key, median(rounds.map((round) => round[key]))))
        console.log(`| ${name} | ${way} |`, cells.join(' | '), '|')
      }
      const ratios = COLUMNS.map(([key]) => {
        const ratio = median(results.tokio.map((round, n) => round[key] / results.windlass[n][key]))
        return Number.isFinite(ratio) ? ratio.toFixed(2) : ''
      })
      console.log('| | tokio / windlass |', ratios.join(' | '), '|')
    }
  } finally {
    server.kill()
  }
}

const [way, name, port] = process.argv.slice(2)
if (way) {
  console.log(JSON.stringify(await measure(way, name, Number(port))))
  process.exit()
} else {
  await main()
}
