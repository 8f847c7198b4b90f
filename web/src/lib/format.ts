/* Numbers and short texts that several pages show in the same way. */
import type { Gpu, Job } from '@/api/types'

export function percent(value: number | null | undefined): string {
  return value === null || value === undefined ? '–' : `${Math.round(value)}%`
}

export function gib(mib: number | null | undefined): string {
  if (mib === null || mib === undefined) return '–'
  const value = mib / 1024
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)
}

export function count(value: number, locale: string): string {
  return value.toLocaleString(locale)
}

/** "2 × RTX4090", "1 GPU", "–" for a job without GPUs. */
export function gpuWish(job: Pick<Job, 'gpus' | 'gpu_type'>): string {
  if (!job.gpus) return '–'
  return job.gpu_type.length > 0 ? `${job.gpus} × ${job.gpu_type.join(', ')}` : `${job.gpus} × GPU`
}

export function jobNode(job: Pick<Job, 'node' | 'node_name'>): string {
  return job.node_name ?? job.node ?? '–'
}

export function memoryPercent(gpu: Pick<Gpu, 'memory_used_mib' | 'memory_total_mib'>): number | null {
  if (gpu.memory_used_mib === null || !gpu.memory_total_mib) return null
  return (gpu.memory_used_mib / gpu.memory_total_mib) * 100
}

/** What is wrong with a GPU; that it is simulated is said by its badge. */
export function gpuNote(gpu: Pick<Gpu, 'note' | 'simulated'>): string | null {
  return gpu.simulated && gpu.note === 'simulated' ? null : gpu.note
}

export function money(value: number, currency: string | null, locale: string): string {
  try {
    return value.toLocaleString(locale, { style: 'currency', currency: currency ?? 'USD', maximumFractionDigits: 4 })
  } catch {
    return `${value} ${currency ?? ''}`.trim()
  }
}

/** The number inside an id such as j-17, for ordering; -1 when there is none. */
export function idNumber(id: string): number {
  const match = /(\d+)$/.exec(id)
  return match ? Number(match[1]) : -1
}
