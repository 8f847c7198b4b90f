/* A stand-in for the server while the UI is developed and tested: the native API with believable
 * data, all in memory. It also serves web/dist, as the real server does.
 *
 *   node mock/server.mjs [--port 8080] [--gpus 8] [--jobs 40] [--speed 1] [--seed 7]
 *
 * Sign in as admin@localhost / kite-lamp-orbit-73, or dev@localhost / plain-river-stone-12.
 * Faults for tests: POST /mock/{drop-sockets|skip-seq|refuse-sockets|accept-sockets|expire-sessions|down|up}.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { WebSocketServer } from 'ws'

function option(name, fallback) {
  const at = process.argv.indexOf(`--${name}`)
  return at > 0 ? Number(process.argv[at + 1]) : fallback
}
const port = option('port', 8080)
const gpuCount = option('gpus', 8)
const jobCount = option('jobs', 40)
const speed = option('speed', 1)
const dist = fileURLToPath(new URL('../dist', import.meta.url))
const startedMs = Date.now()

let seed = option('seed', 7)
function random() {
  seed = (seed * 1664525 + 1013904223) >>> 0
  return seed / 4294967296
}
const pick = (list) => list[Math.floor(random() * list.length)]
const iso = (ms) => new Date(ms).toISOString().replace('Z', '000Z')

const sockets = new Set()
const fault = { down: false, sockets: true, skip: 0 }

/* ---- people ---- */
function person(n, email, role, password, first, last) {
  return {
    password,
    user: {
      id: `u-${n}`, uuid: randomUUID(), email, role, first_name: first, last_name: last, nickname: null,
      organization: null, is_active: true, is_verified: true, created_at: iso(startedMs - 864e5 * 30), last_login: null,
    },
  }
}
const people = [
  person(1, 'admin@localhost', 'admin', 'kite-lamp-orbit-73', null, null),
  person(2, 'dev@localhost', 'user', 'plain-river-stone-12', 'Li', 'Na'),
]
const access = new Map() // token -> {user, until, family}
const refresh = new Map() // token -> {user, family, dead}
const tickets = new Map()
const serviceTokens = []
let tokenNumber = 1

function makeSession(user, family = randomUUID()) {
  const a = randomBytes(24).toString('base64url')
  const r = randomBytes(24).toString('base64url')
  access.set(a, { user, until: Date.now() + 30 * 60e3, family })
  refresh.set(r, { user, family, dead: false })
  return { access_token: a, refresh_token: r, expires_in: 1800, user }
}

/* ---- nodes and GPUs ---- */
const gpuModels = [
  ['NVIDIA GeForce RTX 4090', 'RTX4090', 24564, 450],
  ['NVIDIA A100-SXM4-80GB', 'A100-80G', 81920, 400],
  ['NVIDIA H100 80GB HBM3', 'H100', 81559, 700],
]
const perNode = gpuCount <= 8 ? 4 : 8
const nodes = []
const gpus = []
for (let i = 0; i < gpuCount; i++) {
  const nodeIndex = Math.floor(i / perNode)
  if (!nodes[nodeIndex]) {
    nodes.push({
      id: `n-${nodeIndex + 1}`, name: gpuCount > 16 ? `rack${1 + Math.floor(nodeIndex / 12)}-gpu${String(nodeIndex + 1).padStart(3, '0')}` : `gpu-host-${nodeIndex + 1}`,
      state: 'online', agent_version: '0.1.0', last_seen: iso(Date.now()), boot_id: randomUUID(), os: 'Debian GNU/Linux 12',
      kernel: '6.1.0-31-amd64', cpus: 64, memory_mib: 515000, memory_used_mib: 88000, cpu_percent: 21, gpus: perNode,
      gpu_note: null, cgroups: 'v2', enforces: ['memory', 'pids', 'cpu'],
    })
  }
  const [name, type, memory, watts] = gpuModels[gpuCount <= 8 ? Math.min(nodeIndex, 1) : Math.floor(nodeIndex / 3) % 3]
  gpus.push({
    id: `gpu-${String(i + 1).padStart(3, '0')}`, node: nodes[nodeIndex].id, node_name: nodes[nodeIndex].name, index: i % perNode,
    uuid: `GPU-${randomUUID()}`, name, type, memory_total_mib: memory, memory_used_mib: 12, utilization: 0,
    memory_utilization: 0, temperature_c: 34, power_w: 24, power_limit_w: watts, state: 'available', holder: null,
    processes: [], simulated: true, driver: '550.54.14', cuda: '12.4', updated_at: iso(Date.now()), note: null,
    health: 'ok', health_reason: null, parent: null, profile: null, age_ms: 0, throttle: [], free_milli: 1000, holders: [], clock_sm_mhz: 210,
  })
}
if (gpuCount >= 8) {
  Object.assign(gpus[gpuCount - 1], {
    state: 'foreign', note: 'pid 41902 (python3) of user chen uses 9 GiB; Drover did not start it',
    processes: [{ pid: 41902, name: 'python3', memory_mib: 9216, job: null }], memory_used_mib: 9228, utilization: 63,
  })
}
for (let i = 40; i < gpuCount; i += 97) Object.assign(gpus[i], { state: i % 2 ? 'error' : 'offline', note: 'Xid 79: the GPU has fallen off the bus', utilization: null, temperature_c: null, power_w: null })

/* ---- jobs ---- */
const jobs = []
const jobById = new Map()
const logs = new Map() // id -> lines
const events = []
let jobNumber = 0
let eventNumber = 0
const commands = [
  ['resnet50', ['python3', 'train.py', '--model', 'resnet50', '--epochs', '90']],
  ['sweep-lr', ['python3', 'sweep.py', '--lr', '3e-4', '--seed', '17']],
  ['llama-sft', ['torchrun', '--nproc-per-node=2', 'finetune.py', '--config', 'configs/sft.yaml']],
  ['tokenise', ['bash', '-c', 'zcat corpus/*.gz | ./tokenise --threads 16 > out.bin']],
  ['eval-mmlu', ['python3', '-m', 'harness.run', '--task', 'mmlu', '--shots', '5']],
  ['diffusion', ['accelerate', 'launch', 'train_unet.py', '--resolution', '512']],
]

function addEvent(job, type, summary, severity = 'info', actor = null, data = {}, atMs = Date.now()) {
  const event = {
    id: `e-${String(++eventNumber).padStart(9, '0')}`, at: iso(atMs), type, source_type: 'job', source_id: job.id, severity,
    actor, summary, data: { attempt: job.attempt, ...data },
  }
  events.push(event)
  job.events.push(event)
  publish({ type: 'event', data: event }, ['events', `job:${job.id}`], job)
}
function plain(job) {
  const { events: _e, timer: _t, ends: _d, fails: _f, step: _s, ...rest } = job
  const now = Date.now()
  if (rest.state === 'queued') {
    rest.waited_s = (now - Date.parse(rest.created_at)) / 1000
    rest.position = 1 + jobs.filter((j) => j.state === 'queued' && j.created_at < job.created_at).length
    const free = gpus.filter((g) => g.state === 'available').length
    rest.reason = `GPUs: ${free} of ${rest.gpus} free`
  }
  if (rest.state === 'running') rest.ran_s = (now - Date.parse(rest.started_at)) / 1000
  rest.cpus_counted = job.cpus ?? (job.gpus > 0 ? 0 : 1)
  rest.notes = []
  rest.log_lines = logs.get(job.id)?.length ?? 0
  return rest
}
function changed(job) {
  publish({ type: 'job_update', data: plain(job) }, ['jobs', `job:${job.id}`], job)
}
function addLine(job, text, stream = 'out', atMs = Date.now()) {
  const lines = logs.get(job.id)
  const before = lines[lines.length - 1]
  const last = before?.attempt === job.attempt ? before : null
  const line = { n: last ? last.n + 1 : 1, offset: last ? last.offset + last.text.length + 20 : 0, at: iso(atMs), stream, text, attempt: job.attempt, partial: false }
  lines.push(line)
  return line
}
function sendLines(job, lines) {
  publish({ type: 'job_log', data: { job: job.id, lines } }, [`log:${job.id}`], job)
}
function newJob(spec, owner, createdMs = Date.now()) {
  const id = `j-${++jobNumber}`
  const job = {
    id, uuid: randomUUID(), name: spec.name || spec.command[0].split('/').pop().slice(0, 255), kind: 'process', state: 'queued', reason: null,
    owner: owner.email, owner_id: owner.id, priority: spec.priority ?? 'normal', priority_value: 5, command: spec.command, env: spec.env ?? {},
    cwd: spec.cwd ?? null, image: null, gpus: spec.gpus ?? 0, gpu_type: spec.gpu_type ?? [], cpus: spec.cpus ?? null,
    memory_mib: spec.memory_mib ?? null, time_limit_s: spec.time_limit_s ?? null, retries: spec.retries ?? 0, attempt: 0, labels: {},
    node: null, node_name: null, gpu_ids: [], exit_code: null, signal: null, end_reason: null, created_at: iso(createdMs),
    started_at: null, ended_at: null, waited_s: null, ran_s: null, position: null, cost: null, currency: null, simulated: gpuCount > 0,
    log_lines: 0, events: [], step: 0,
  }
  jobs.unshift(job)
  jobById.set(id, job)
  logs.set(id, [])
  addEvent(job, 'job.created', 'queued', 'info', `user:${owner.email}`, { from: null, to: 'queued', reason: null }, createdMs)
  return job
}
function start(job, chosen, atMs = Date.now()) {
  const node = chosen[0] ? nodes.find((n) => n.id === chosen[0].node) : (nodes[0] ?? { id: 'n-1', name: 'local' })
  Object.assign(job, {
    state: 'running', attempt: job.attempt + 1, started_at: iso(atMs), node: node.id, node_name: node.name, gpu_ids: chosen.map((g) => g.id),
    waited_s: (atMs - Date.parse(job.created_at)) / 1000, reason: null, position: null,
  })
  for (const gpu of chosen) {
    gpu.state = 'leased'
    gpu.holder = { kind: 'job', id: job.id, name: job.name, owner: job.owner, milli: 1000 }
    gpu.processes = [{ pid: 20000 + jobNumber * 7 + gpu.index, name: job.command[0], memory_mib: Math.floor(gpu.memory_total_mib * 0.6), job: job.id }]
  }
  const placed = `placed on ${node.name}`
  addEvent(job, 'job.status.changed', `starting: ${placed}`, 'info', 'scheduler', { from: 'queued', to: 'starting', reason: placed }, atMs - 400)
  addEvent(job, 'job.status.changed', 'running', 'info', 'agent', { from: 'starting', to: 'running', reason: null }, atMs)
}
function release(job) {
  for (const id of job.gpu_ids) {
    const gpu = gpus.find((g) => g.id === id)
    if (gpu) Object.assign(gpu, { state: 'available', holder: null, processes: [] })
  }
}
const endings = {
  completed: ['exited', 0, null, 'completed'],
  failed: ['exited', 3, 'exit code 3', 'failed: exit code 3'],
  oom: ['out_of_memory', null, 'killed: out of memory (limit 512 MiB)', 'failed: out of memory (limit 512 MiB)'],
  timeout: ['timed_out', null, 'time limit of 2:00:00 reached', 'time limit of 2:00:00 reached, the process tree was ended'],
  cancelled: ['cancelled', null, 'cancelled by admin@localhost', 'cancelled'],
}
function end(job, how, atMs = Date.now()) {
  const [reason, code, sentence, summary] = endings[how]
  const state = how === 'oom' ? 'failed' : how
  Object.assign(job, {
    state, end_reason: reason, exit_code: code, signal: how === 'oom' ? 9 : null, reason: sentence, ended_at: iso(atMs),
    ran_s: job.started_at ? (atMs - Date.parse(job.started_at)) / 1000 : null,
    waited_s: job.waited_s ?? (atMs - Date.parse(job.created_at)) / 1000, position: null,
  })
  release(job)
  addEvent(job, 'job.status.changed', summary, state === 'completed' || state === 'cancelled' ? 'info' : 'error', 'agent', { to: state, reason: state === 'completed' ? null : sentence }, atMs)
}
function trainingLine(step) {
  const loss = 2.4 * Math.exp(-step / 140) + 0.31 + (random() - 0.5) * 0.06
  return `epoch ${1 + Math.floor(step / 100)}/90  step ${step}  loss ${loss.toFixed(4)}  lr ${(3e-4 * Math.min(1, step / 50)).toExponential(2)}  ${(820 + random() * 60).toFixed(0)} img/s`
}

for (let i = 0; i < jobCount; i++) {
  const [name, command] = pick(commands)
  const created = startedMs - (jobCount - i) * 9.7e4 - 4e5
  const job = newJob({ name, command, gpus: pick([0, 1, 1, 1, 2]), gpu_type: pick([[], ['RTX4090'], ['A100-80G']]), retries: pick([0, 0, 2]), time_limit_s: pick([null, 7200]), env: { WANDB_MODE: 'offline', SEED: String(i) }, cwd: '/home/li.na/vision' }, pick(people).user, created)
  const begun = created + 4000 + random() * 60e3
  const n = jobCount > 500 ? 3 : 60 + Math.floor(random() * 200)
  start(job, [], begun)
  job.gpu_ids = job.gpus ? gpus.slice(0, job.gpus).map((g) => g.id) : []
  for (let k = 0; k < n; k++) addLine(job, trainingLine(k), 'out', begun + k * 200)
  const how = pick(['completed', 'completed', 'completed', 'completed', 'failed', 'oom', 'timeout', 'cancelled'])
  if (how === 'failed') {
    addLine(job, 'Traceback (most recent call last):', 'err', begun + n * 200)
    addLine(job, '  File "/home/li.na/vision/train.py", line 212, in <module>', 'err', begun + n * 200)
    addLine(job, "FileNotFoundError: [Errno 2] No such file or directory: 'data/val/labels.npy'", 'err', begun + n * 200)
  }
  const held = job.gpu_ids
  job.gpu_ids = []
  end(job, how, begun + n * 210)
  job.gpu_ids = held
}
function free(type) {
  return gpus.filter((g) => g.state === 'available' && (type.length === 0 || type.includes(g.type)))
}
if (gpuCount > 0) {
  for (let i = 0; i < (gpuCount > 64 ? Math.floor(gpuCount * 0.35) : 3); i++) {
    const [name, command] = commands[i % commands.length]
    const wish = i % 3 === 2 ? 2 : 1
    const spec = { name, command, gpus: wish, gpu_type: i < 3 ? [i === 2 ? 'A100-80G' : 'RTX4090'] : [], env: { SEED: '17' }, cwd: '/home/li.na/vision', time_limit_s: 14400 }
    const job = newJob(spec, people[i % 2].user, Date.now() - 3e5 * (i + 2))
    const chosen = free(gpuCount > 64 ? [] : job.gpu_type).slice(0, wish)
    if (chosen.length < wish) break
    start(job, chosen, Date.parse(job.created_at) + 2000)
    for (let k = 0; k < (i < 4 ? 900 : 2); k++) addLine(job, trainingLine(k), 'out', Date.parse(job.started_at) + k * 400)
    job.step = 900
    job.ends = Infinity
  }
  const big = newJob({ name: 'pretrain-7b', command: ['torchrun', '--nproc-per-node=4', 'pretrain.py'], gpus: Math.min(gpuCount, 16), gpu_type: [], time_limit_s: 86400, priority: 'high' }, people[1].user, Date.now() - 42e3)
  big.step = -1
}

/* ---- time passes ---- */
setInterval(() => {
  const now = Date.now()
  const waiting = jobs.filter((j) => j.state === 'queued').reverse()
  for (const job of waiting) {
    if (now - Date.parse(job.created_at) < 800 / speed) continue
    const chosen = free(job.gpu_type).slice(0, job.gpus)
    if (chosen.length < job.gpus || job.step === -1) {
      continue
    }
    job.state = 'starting'
    changed(job)
    start(job, chosen)
    job.ends = job.command.includes('600') ? Infinity : now + 4000 / speed
    changed(job)
  }
  for (const job of jobs.filter((j) => j.state === 'running').slice(0, 40)) {
    const lines = []
    const quick = job.ends !== Infinity
    const ticks = job.command.join(' ').includes('tick')
    for (let k = 0; k < (quick && !ticks ? 3 : 1); k++) {
      job.step++
      lines.push(addLine(job, ticks ? `tick ${job.step}` : trainingLine(job.step), 'out'))
    }
    if (random() < 0.02) lines.push(addLine(job, 'UserWarning: 内存碎片较多，建议设置 expandable_segments（已继续运行）', 'err'))
    sendLines(job, lines)
    if (now > (job.ends ?? Infinity)) {
      sendLines(job, [addLine(job, 'done: checkpoint written to out/model.pt')])
      const fails = job.command.join(' ').includes('fail')
      if (fails && job.attempt <= job.retries) {
        addEvent(job, 'job.status.changed', `queued: try ${job.attempt} of ${job.retries + 1} ended: exit code 3`, 'info', 'agent', { from: 'running', to: 'queued', reason: `try ${job.attempt} of ${job.retries + 1} ended: exit code 3` })
        release(job)
        Object.assign(job, { state: 'queued', reason: 'tried again', node: null, node_name: null, gpu_ids: [], started_at: null })
      } else end(job, fails ? 'failed' : 'completed')
      changed(job)
    }
  }
  for (const job of jobs.filter((j) => j.state === 'cancelling')) {
    end(job, 'cancelled')
    changed(job)
  }
}, 500 / speed)

setInterval(() => {
  const moved = []
  for (const gpu of gpus) {
    if (gpu.utilization === null) continue
    const busy = gpu.state === 'leased' || gpu.state === 'foreign'
    const goal = busy ? 86 + 10 * Math.sin(Date.now() / 9000 + gpu.index) : 0
    gpu.utilization = Math.max(0, Math.min(100, Math.round(gpu.utilization * 0.5 + goal * 0.5 + (busy ? (random() - 0.5) * 8 : 0))))
    gpu.temperature_c = Math.round(34 + gpu.utilization * 0.42 + (random() - 0.5) * 2)
    gpu.power_w = Math.round(24 + (gpu.power_limit_w - 24) * (gpu.utilization / 112))
    gpu.memory_used_mib = gpu.state === 'leased' ? Math.round(gpu.memory_total_mib * (0.6 + 0.02 * gpu.index)) : gpu.state === 'foreign' ? 9228 : 12
    gpu.memory_utilization = Math.round(gpu.utilization * 0.6)
    gpu.updated_at = iso(Date.now())
    moved.push(gpu)
  }
  for (let i = 0; i < moved.length; i += 1000) publish({ type: 'gpu_metrics', data: { gpus: moved.slice(i, i + 1000) } }, ['gpu'])
}, gpuCount > 1000 ? 5000 : 1000)

/* ---- HTTP ---- */
class Problem extends Error {
  constructor(status, code, detail, hint = null, errors = []) {
    super(detail)
    Object.assign(this, { status, code, hint, errors })
  }
}
const notFound = (what) => new Problem(404, 'not_found', `no ${what}`)
function sees(user, job) {
  return user.role === 'admin' || job.owner_id === user.id
}
function jobOf(user, id) {
  const job = jobById.get(id) ?? jobs.find((j) => j.uuid === id)
  if (!job || !sees(user, job)) throw new Problem(404, 'not_found', `no job ${id}`, 'drover ps --all lists the jobs that you may see')
  return job
}
function caller(request, url) {
  const header = request.headers.authorization ?? ''
  const found = access.get(header.replace(/^Bearer /, ''))
  if (found && found.until > Date.now()) return found.user
  const service = serviceTokens.find((t) => header === `Bearer ${t.secret}`)
  if (service) return people.find((p) => p.user.id === service.owner).user
  const ticket = url.searchParams.get('ticket')
  if (ticket && tickets.has(ticket)) {
    const user = tickets.get(ticket)
    tickets.delete(ticket)
    return user
  }
  throw new Problem(401, 'unauthenticated', 'sign in first')
}
async function body(request) {
  const parts = []
  for await (const part of request) parts.push(part)
  try {
    return parts.length ? JSON.parse(Buffer.concat(parts).toString()) : {}
  } catch {
    throw new Problem(400, 'malformed', 'the body is not JSON')
  }
}
const activeStates = ['queued', 'starting', 'running', 'cancelling', 'unknown']
function paged(list, url) {
  const limit = Math.min(1000, Number(url.searchParams.get('limit') ?? 50))
  const from = Number(url.searchParams.get('cursor') ?? 0)
  return { items: list.slice(from, from + limit), next_cursor: from + limit < list.length ? String(from + limit) : null }
}
function listJobs(user, url) {
  const state = url.searchParams.get('state') ?? ''
  const wanted = state.split(',').filter(Boolean).flatMap((s) => (s === 'active' ? activeStates : s === 'ended' ? ['completed', 'failed', 'timeout', 'cancelled'] : [s]))
  const owner = url.searchParams.get('owner') ?? ''
  const q = (url.searchParams.get('q') ?? '').toLowerCase()
  const found = jobs
    .filter((j) => sees(user, j))
    .filter((j) => wanted.length === 0 || wanted.includes(j.state))
    .filter((j) => owner === '' || owner === 'all' || j.owner_id === (owner === 'me' ? user.id : owner))
    .filter((j) => q === '' || `${j.name} ${j.id}`.toLowerCase().includes(q))
    .sort((a, b) => (a.created_at < b.created_at ? 1 : -1))
  const page = paged(found, url)
  return { ...page, items: page.items.map(plain) }
}
function logLines(job, url) {
  const stream = url.searchParams.get('stream')
  const attempt = Number(url.searchParams.get('attempt') ?? job.attempt)
  let lines = logs.get(job.id).filter((l) => l.attempt === attempt && (!stream || l.stream === stream))
  const tail = url.searchParams.get('tail')
  const limit = Number(url.searchParams.get('limit') ?? 1000)
  if (tail !== null) lines = lines.slice(-Number(tail))
  else lines = lines.filter((l) => l.offset >= Number(url.searchParams.get('offset') ?? 0)).slice(0, limit)
  const last = lines[lines.length - 1]
  return { items: lines, next_offset: last ? last.offset + 1 : 0, complete: attempt < job.attempt || !activeStates.includes(job.state) }
}
function submit(spec, user) {
  const known = ['name', 'command', 'env', 'cwd', 'image', 'gpus', 'gpu_type', 'cpus', 'memory_mib', 'time_limit_s', 'priority', 'retries', 'labels']
  const errors = []
  for (const key of Object.keys(spec)) if (!known.includes(key)) errors.push({ field: key, rule: 'extra_forbidden', message: 'not a member of a job' })
  if (!Array.isArray(spec.command) || spec.command.length === 0) errors.push({ field: 'command', rule: 'missing', message: 'a command is required' })
  if ((spec.gpus ?? 0) > 1024) errors.push({ field: 'gpus', rule: 'less_than_equal', message: 'at most 1024 GPUs' })
  if (errors.length) throw new Problem(422, 'invalid', `${errors[0].field}: ${errors[0].message}`, null, errors)
  if ((spec.gpus ?? 0) > gpuCount) {
    throw new Problem(409, 'no_capacity', `cannot run here: the fleet has ${gpuCount} GPUs, ${spec.gpus} were asked for`, `Ask for at most ${gpuCount}, or add a node with: drover-agent join`)
  }
  const job = newJob(spec, user)
  changed(job)
  return plain(job)
}
function overview(user) {
  const mine = jobs.filter((j) => sees(user, j))
  const number = (...states) => mine.filter((j) => states.includes(j.state)).length
  const day = mine.filter((j) => j.ended_at && Date.now() - Date.parse(j.ended_at) < 864e5)
  const gpuNumber = (...states) => gpus.filter((g) => states.includes(g.state)).length
  const problems = []
  const lost = gpus.filter((g) => g.state === 'error')
  if (lost.length) problems.push({ text: `${lost.length} GPUs report an error, first ${lost[0].id} on ${lost[0].node_name}: ${lost[0].note}`, link: '/gpus?state=error' })
  const foreign = gpus.filter((g) => g.state === 'foreign')
  if (foreign.length) problems.push({ text: `${foreign[0].id} on ${foreign[0].node_name} is used by a process that Drover did not start (pid 41902, python3, 9 GiB)`, link: '/gpus?state=foreign' })
  return {
    version: '0.1.0', demo: true, simulated: gpuCount > 0, uptime_s: Math.floor((Date.now() - startedMs) / 1000),
    jobs: { queued: number('queued'), starting: number('starting'), running: number('running'), unknown: number('unknown'), completed_24h: day.filter((j) => j.state === 'completed').length, failed_24h: day.filter((j) => ['failed', 'timeout'].includes(j.state)).length },
    gpus: { total: gpus.length, available: gpuNumber('available'), leased: gpuNumber('leased'), foreign: gpuNumber('foreign'), error: gpuNumber('error', 'driver_hung', 'offline') },
    nodes: { total: nodes.length, online: nodes.length },
    waiting: mine.filter((j) => j.state === 'queued').slice(0, 5).map(plain), problems,
  }
}

/* Links that work, once each. */
const links = new Set(['drl_reset', 'drl_verify'])

async function api(request, url) {
  const path = url.pathname
  const method = request.method
  const key = `${method} ${path}`
  if (key === 'GET /v1/version') return [200, { version: '0.1.0', api: 'v1', started_at: iso(startedMs), demo: true }]
  if (key === 'POST /v1/session') {
    const { email, password } = await body(request)
    const found = people.find((p) => p.user.email === email && p.password === password)
    if (!found) throw new Problem(401, 'LOGIN_BAD_CREDENTIALS', 'the email or the password is wrong', 'The first password is printed once when the server starts; drover user password sets a new one.')
    return [200, makeSession(found.user)]
  }
  if (key === 'POST /v1/session/refresh') {
    const { refresh_token: token } = await body(request)
    const found = refresh.get(token)
    if (!found || found.dead) {
      if (found) for (const [t, r] of refresh) if (r.family === found.family) refresh.delete(t)
      throw new Problem(401, 'unauthenticated', 'the session has ended; sign in again')
    }
    found.dead = true
    return [200, makeSession(found.user, found.family)]
  }
  if (key === 'POST /v1/password/forgot') return [202, { mail: false }]
  if (key === 'POST /v1/password/reset' || key === 'POST /v1/email/verify') {
    const { token } = await body(request)
    if (!links.delete(token)) throw new Problem(400, 'LINK_BAD', 'this link was used already, is too old, or was never one; ask for another')
    return path === '/v1/email/verify' ? [200, people[0].user] : [204, null]
  }
  const user = caller(request, url)
  if (key === 'GET /v1/session') return [200, { user, via: 'session', role: user.role }]
  if (key === 'DELETE /v1/session') {
    access.delete((request.headers.authorization ?? '').replace(/^Bearer /, ''))
    return [204, null]
  }
  if (key === 'POST /v1/session/ticket') {
    const ticket = randomBytes(16).toString('hex')
    tickets.set(ticket, user)
    return [200, { ticket, expires_in: 30 }]
  }
  if (key === 'GET /v1/users') return [200, { items: people.map((p) => p.user), next_cursor: null }]
  if (key === 'GET /v1/overview') return [200, overview(user)]
  if (key === 'GET /v1/jobs') return [200, listJobs(user, url)]
  if (key === 'POST /v1/jobs') return [201, submit(await body(request), user)]
  if (key === 'GET /v1/gpus') return [200, paged(gpus, url)]
  if (key === 'GET /v1/nodes') return [200, paged(nodes, url)]
  if (key === 'GET /v1/events') return [200, paged(events.slice().reverse(), url)]
  if (key === 'GET /v1/tokens') return [200, { items: serviceTokens.filter((t) => t.owner === user.id).map((t) => t.token), next_cursor: null }]
  if (key === 'POST /v1/tokens') {
    const { name, expires_in_days: days } = await body(request)
    if (!name) throw new Problem(422, 'invalid', 'name: a name is required', null, [{ field: 'name', rule: 'missing', message: 'a name is required' }])
    const secret = `drv_${randomBytes(24).toString('base64url')}`
    const token = { id: `t-${tokenNumber++}`, name, prefix: secret.slice(0, 12), created_at: iso(Date.now()), last_used_at: null, expires_at: days ? iso(Date.now() + days * 864e5) : null }
    serviceTokens.push({ owner: user.id, token, secret })
    return [201, { ...token, token: secret }]
  }
  let match
  if ((match = /^\/v1\/tokens\/(t-\d+)$/.exec(path)) && method === 'DELETE') {
    const at = serviceTokens.findIndex((t) => t.token.id === match[1] && t.owner === user.id)
    if (at < 0) throw notFound(`token ${match[1]}`)
    serviceTokens.splice(at, 1)
    return [204, null]
  }
  if ((match = /^\/v1\/gpus\/([\w-]+)$/.exec(path))) {
    const gpu = gpus.find((g) => g.id === match[1])
    if (!gpu) throw notFound(`GPU ${match[1]}`)
    return [200, gpu]
  }
  if ((match = /^\/v1\/jobs\/([\w-]+)$/.exec(path))) return [200, plain(jobOf(user, match[1]))]
  if ((match = /^\/v1\/jobs\/([\w-]+)\/cancel$/.exec(path)) && method === 'POST') {
    const job = jobOf(user, match[1])
    if (!activeStates.includes(job.state)) throw new Problem(409, 'conflict', `job ${job.id} is already ${job.state}`)
    addEvent(job, 'job.cancel.requested', `cancel asked by ${user.email}`, 'info', user.email)
    if (job.state === 'queued') end(job, 'cancelled')
    else job.state = 'cancelling'
    job.reason = job.state === 'cancelling' ? 'asked to end; 10 s of grace' : job.reason
    changed(job)
    return [200, plain(job)]
  }
  if ((match = /^\/v1\/jobs\/([\w-]+)\/events$/.exec(path))) return [200, paged(jobOf(user, match[1]).events, url)]
  if ((match = /^\/v1\/jobs\/([\w-]+)\/log$/.exec(path))) return [200, logLines(jobOf(user, match[1]), url)]
  if ((match = /^\/v1\/jobs\/([\w-]+)\/log\.txt$/.exec(path))) return ['text', logs.get(jobOf(user, match[1]).id).map((l) => l.text).join('\n') + '\n']
  throw new Problem(404, 'not_found', `no route ${method} ${path}`)
}

const kinds = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2', '.json': 'application/json' }
const contentPolicy = "default-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'"
async function page(url, response) {
  let file = join(dist, normalize(url.pathname))
  if (!file.startsWith(dist) || !(await stat(file).then((s) => s.isFile(), () => false))) file = join(dist, 'index.html')
  try {
    const bytes = await readFile(file)
    response.writeHead(200, { 'Content-Type': kinds[extname(file)] ?? 'application/octet-stream', 'Content-Security-Policy': contentPolicy })
    response.end(bytes)
  } catch {
    response.writeHead(404).end('build the UI first: npm run build')
  }
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://mock')
  if (url.pathname.startsWith('/mock/')) {
    const what = url.pathname.slice(6)
    if (what === 'drop-sockets') for (const s of sockets) s.terminate()
    else if (what === 'skip-seq') fault.skip++
    else if (what === 'refuse-sockets') fault.sockets = false
    else if (what === 'accept-sockets') fault.sockets = true
    else if (what === 'expire-sessions') access.clear()
    else if (what === 'end-sessions') {
      access.clear()
      refresh.clear()
    } else if (what === 'down') {
      fault.down = true
      for (const s of sockets) s.terminate()
    } else if (what === 'up') fault.down = false
    else return void response.writeHead(404).end()
    return void response.writeHead(204).end()
  }
  if (fault.down) return void request.socket.destroy()
  if (!/^\/(v1|api|auth)\//.test(url.pathname)) return void page(url, response)
  try {
    const [status, answer] = await api(request, url)
    if (status === 'text') response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8' }).end(answer)
    else if (answer === null) response.writeHead(status).end()
    else response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer))
  } catch (error) {
    const status = error.status ?? 500
    response.writeHead(status, { 'Content-Type': 'application/problem+json' })
    response.end(JSON.stringify({ type: `/problems/${error.code ?? 'internal'}`, title: error.code ?? 'internal', status, detail: error.message, code: error.code ?? 'internal', request_id: randomUUID(), errors: error.errors ?? [], hint: error.hint ?? null }))
    if (status === 500) console.error(error)
  }
})

/* ---- live channel ---- */
const web = new WebSocketServer({ noServer: true })
server.on('upgrade', (request, socket, head) => {
  const url = new URL(request.url, 'http://mock')
  if (fault.down || !fault.sockets || url.pathname !== '/v1/ws') return socket.destroy()
  web.handleUpgrade(request, socket, head, (ws) => {
    let user
    try {
      user = caller(request, url)
    } catch {
      return ws.close(4003, 'bad ticket')
    }
    Object.assign(ws, { user, topics: new Set(), seq: 0 })
    sockets.add(ws)
    const say = (message) => ws.send(JSON.stringify({ ...message, timestamp: iso(Date.now()) }))
    say({ type: 'connection_established', connection_id: `conn_${sockets.size}` })
    ws.on('message', (text) => {
      let message
      try {
        message = JSON.parse(text)
      } catch {
        return
      }
      if (message.type === 'ping') say({ type: 'pong' })
      if (message.type === 'unsubscribe') for (const t of message.topics) ws.topics.delete(t)
      if (message.type === 'subscribe') {
        const refused = []
        for (const t of message.topics) {
          const job = /^(?:job|log):(.+)$/.exec(t)
          if (job ? jobById.has(job[1]) && sees(user, jobById.get(job[1])) : ['jobs', 'gpu', 'nodes', 'events'].includes(t)) ws.topics.add(t)
          else refused.push(t)
        }
        say({ type: 'subscribed', topics: [...ws.topics], refused })
      }
    })
    ws.on('close', () => sockets.delete(ws))
  })
})
function publish(message, topics, job = null) {
  for (const ws of sockets) {
    for (const topic of topics) {
      if (!ws.topics.has(topic) || (job && !sees(ws.user, job))) continue
      ws.seq++
      if (fault.skip > 0) {
        fault.skip--
        continue
      }
      ws.send(JSON.stringify({ ...message, topic, seq: ws.seq, timestamp: iso(Date.now()) }))
    }
  }
}

server.listen(port, '127.0.0.1', () => {
  console.log(`mock of Drover on http://127.0.0.1:${port}  (${gpus.length} GPUs, ${jobs.length} jobs)`)
  console.log('sign in as admin@localhost, password kite-lamp-orbit-73')
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))
