// The other side of the imports and exports of the module.

function load(bytes, write) {
  const [decoder, encoder] = [new TextDecoder(), new TextEncoder()]
  const cancels = new Map()
  let exports

  const text = (start, length) => decoder.decode(new Uint8Array(exports.memory.buffer, start, length))

  function complete(id, isOk = true, result = '') {
    cancels.delete(id)
    const bytes = encoder.encode(result)
    const room = exports.room(bytes.length)
    new Uint8Array(exports.memory.buffer, room, bytes.length).set(bytes)
    exports.complete(id, isOk, room, bytes.length)
  }

  // A message is an event that isn't delayed as the time-outs of nested timers are.
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = () => exports.turn()

  const page = {
    turn_soon: () => queueMicrotask(() => exports.turn()),
    turn_later: () => port2.postMessage(null),
    start_timer(id, milliseconds) {
      const timer = setTimeout(complete, milliseconds, id)
      cancels.set(id, () => clearTimeout(timer))
    },
    start_listener(id, start, length) {
      const abort = new AbortController()
      const options = { once: true, signal: abort.signal }
      document.addEventListener(text(start, length), () => complete(id), options)
      cancels.set(id, () => abort.abort())
    },
    start_fetch(id, start, length) {
      const abort = new AbortController()
      cancels.set(id, () => abort.abort())
      fetch(text(start, length), { signal: abort.signal })
        .then((response) => response.text())
        .then((body) => complete(id, true, body), (error) => complete(id, false, String(error)))
    },
    cancel(id) {
      cancels.get(id)?.()
      cancels.delete(id)
    },
    write: (start, length) => write(text(start, length)),
    now: () => performance.now(),
  }
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { page })
  exports = instance.exports
  return exports
}
