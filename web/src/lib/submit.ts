/* From the submit form to a job and to the command line that does the same. */
import type { Gpu, JobSpec } from '@/api/types'
import { quoteShell, quoteWord } from './shell'
import { durationFlag } from './time'

export interface EnvRow {
  key: string
  value: string
}

/** Reads lines of NAME=value, with or without `export` and quotes; others are left out. */
export function parseEnv(text: string): EnvRow[] {
  const rows: EnvRow[] = []
  for (const raw of text.split(/\r?\n/)) {
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(raw)
    if (!match) continue
    const value = (match[2] ?? '').trim()
    const quoted = /^(["'])([\s\S]*)\1$/.exec(value)
    rows.push({ key: match[1] ?? '', value: quoted ? (quoted[2] ?? '') : value })
  }
  return rows
}

/** The name that the server gives by itself: the program, without its folder. */
export function defaultName(argv: readonly string[]): string {
  return (argv[0] ?? '').split('/').pop() ?? ''
}

/** `drover submit …` for the same job; only what differs from the defaults. */
export function submitCommand(spec: JobSpec): string {
  const flags: string[] = []
  if (spec.name) flags.push(`--name ${quoteWord(spec.name)}`)
  if (spec.gpus) flags.push(`--gpus ${spec.gpus}`)
  if (spec.gpu_type?.length) flags.push(`--gpu-type ${quoteWord(spec.gpu_type.join(','))}`)
  if (spec.time_limit_s) flags.push(`--time ${durationFlag(spec.time_limit_s)}`)
  for (const [key, value] of Object.entries(spec.env ?? {})) flags.push(`--env ${quoteWord(`${key}=${value}`)}`)
  if (spec.cwd) flags.push(`--cwd ${quoteWord(spec.cwd)}`)
  if (spec.priority && spec.priority !== 'normal') flags.push(`--priority ${quoteWord(spec.priority)}`)
  if (spec.retries) flags.push(`--retries ${spec.retries}`)
  return ['drover submit', ...flags, '--', quoteShell(spec.command)].join(' ')
}

export type Fit =
  | { kind: 'now'; free: number }
  | { kind: 'wait'; free: number; wanted: number }
  | { kind: 'never'; largest: number; node: string }
  | { kind: 'no_type' }

/** Where a job with so many GPUs of these types could run, judged from what is on the page. */
export function fitOf(gpus: readonly Gpu[], wanted: number, types: readonly string[]): Fit | null {
  if (wanted <= 0 || gpus.length === 0) return null
  const nodes = new Map<string, { name: string; all: number; free: number }>()
  for (const gpu of gpus) {
    if (types.length > 0 && !types.includes(gpu.type ?? '')) continue
    const node = nodes.get(gpu.node) ?? { name: gpu.node_name, all: 0, free: 0 }
    if (gpu.state !== 'error' && gpu.state !== 'offline' && gpu.state !== 'driver_hung' && gpu.state !== 'split') node.all++
    if (gpu.state === 'available') node.free++
    nodes.set(gpu.node, node)
  }
  const found = [...nodes.values()]
  if (found.length === 0) return { kind: 'no_type' }
  const most = found.reduce((a, b) => (b.all > a.all ? b : a))
  if (most.all < wanted) return { kind: 'never', largest: most.all, node: most.name }
  const free = Math.max(...found.map((n) => n.free))
  return free >= wanted ? { kind: 'now', free: found.reduce((sum, n) => sum + n.free, 0) } : { kind: 'wait', free, wanted }
}
