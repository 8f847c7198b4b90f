import { describe, expect, it } from 'vitest'
import type { Gpu } from '@/api/types'
import { fitOf, parseEnv, submitCommand } from '@/lib/submit'
import { splitShell } from '@/lib/shell'

describe('submitCommand', () => {
  it('says only what differs from the defaults', () => {
    expect(submitCommand({ command: ['true'] })).toBe('drover submit -- true')
    expect(submitCommand({ command: ['true'], gpus: 0, priority: 'normal', retries: 0 })).toBe('drover submit -- true')
  })
  it('can be pasted: a shell reads every value back', () => {
    const line = submitCommand({
      name: 'my job', command: ['sh', '-c', "echo 'a'; exit 3"], gpus: 2, gpu_type: ['RTX4090', 'A100-80G'],
      time_limit_s: 5400, env: { A: 'x y', B: '' }, cwd: '/data/my dir', priority: 'high', retries: 2,
    })
    expect(splitShell(line).argv).toEqual([
      'drover', 'submit', '--name', 'my job', '--gpus', '2', '--gpu-type', 'RTX4090,A100-80G', '--time', '1h30m',
      '--env', 'A=x y', '--env', 'B=', '--cwd', '/data/my dir', '--priority', 'high', '--retries', '2',
      '--', 'sh', '-c', "echo 'a'; exit 3",
    ])
  })
})

describe('parseEnv', () => {
  it('reads pasted lines', () => {
    expect(parseEnv('# comment\nexport A=1\nB="x y"\n\nnot a line\nC=')).toEqual([
      { key: 'A', value: '1' }, { key: 'B', value: 'x y' }, { key: 'C', value: '' },
    ])
  })
})

describe('fitOf', () => {
  const gpu = (node: string, type: string, state: string) => ({ node, node_name: node, type, state }) as Gpu
  const fleet = [gpu('n-1', 'A', 'available'), gpu('n-1', 'A', 'leased'), gpu('n-2', 'B', 'available'), gpu('n-2', 'B', 'available'), gpu('n-2', 'B', 'error')]
  it('starts at once, waits, or never runs', () => {
    expect(fitOf(fleet, 1, [])).toEqual({ kind: 'now', free: 3 })
    expect(fitOf(fleet, 2, ['A'])).toEqual({ kind: 'wait', free: 1, wanted: 2 })
    expect(fitOf(fleet, 3, [])).toMatchObject({ kind: 'never', largest: 2 })
    expect(fitOf(fleet, 1, ['Z'])).toEqual({ kind: 'no_type' })
    expect(fitOf(fleet, 0, [])).toBeNull()
    expect(fitOf([], 1, [])).toBeNull()
  })
})
