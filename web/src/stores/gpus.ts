/* All GPUs the caller may see, kept fresh by the `gpu` topic while any page shows them. */
import { defineStore } from 'pinia'
import { computed, ref, shallowRef } from 'vue'
import { get } from '@/api/client'
import type { LiveMessage } from '@/api/live'
import type { FleetNode, Gpu, Page } from '@/api/types'
import { mergeGpus } from '@/lib/merge'
import { useConnection } from './connection'

const pageSize = 1000
/* A sparkline keeps five minutes at 5 s; large fleets are drawn as a map instead. */
const historyPoints = 60
const historyGpusMax = 64

export const useGpus = defineStore('gpus', () => {
  const connection = useConnection()
  const byId = shallowRef<ReadonlyMap<string, Gpu>>(new Map())
  const nodes = shallowRef<FleetNode[]>([])
  const loaded = ref(false)
  const error = shallowRef<unknown>(null)
  const updatedMs = ref(0)
  const history = new Map<string, number[]>()
  const historyVersion = ref(0)
  let users = 0
  let leave: (() => void)[] = []
  let loading: Promise<void> | null = null

  const list = computed(() =>
    [...byId.value.values()].sort((a, b) =>
      a.node_name === b.node_name ? a.index - b.index : a.node_name.localeCompare(b.node_name, undefined, { numeric: true }),
    ),
  )

  function remember(gpus: readonly Gpu[]): void {
    if (byId.value.size > historyGpusMax) return
    for (const gpu of gpus) {
      if (gpu.utilization === null) continue
      const points = history.get(gpu.id) ?? []
      points.push(gpu.utilization)
      if (points.length > historyPoints) points.shift()
      history.set(gpu.id, points)
    }
    historyVersion.value++
  }

  async function readAll(): Promise<void> {
    const found: Gpu[] = []
    let cursor: string | null = null
    do {
      const page: Page<Gpu> = await get<Page<Gpu>>('/v1/gpus', { limit: pageSize, cursor })
      found.push(...page.items)
      cursor = page.next_cursor
    } while (cursor)
    byId.value = new Map(found.map((g) => [g.id, g]))
    nodes.value = (await get<Page<FleetNode>>('/v1/nodes', { limit: pageSize })).items
    remember(found)
    updatedMs.value = Date.now()
  }

  function load(): Promise<void> {
    loading ??= readAll()
      .then(() => {
        error.value = null
        loaded.value = true
      })
      .catch((cause: unknown) => {
        error.value = cause
      })
      .finally(() => {
        loading = null
      })
    return loading
  }

  function onMessage(message: LiveMessage): void {
    if (message.type !== 'gpu_metrics') return
    const gpus = (message.data as { gpus?: Gpu[] } | undefined)?.gpus ?? []
    byId.value = mergeGpus(byId.value, gpus)
    remember(gpus)
    updatedMs.value = Date.now()
  }

  /** Call while shown; give the result back to stop. */
  function use(): () => void {
    if (users++ === 0) {
      void load()
      const subscriber = { onMessage, onResync: () => void load() }
      leave = [
        connection.link.subscribe('gpu', subscriber),
        connection.link.subscribe('nodes', {
          onMessage: (message) => {
            const node = message.data as FleetNode | undefined
            if (message.type !== 'node_update' || !node?.id) return
            const others = nodes.value.filter((n) => n.id !== node.id)
            nodes.value = [...others, node].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }))
          },
          onResync: () => undefined,
        }),
      ]
    }
    return () => {
      if (--users > 0) return
      for (const stop of leave) stop()
      leave = []
    }
  }

  function forget(): void {
    byId.value = new Map()
    nodes.value = []
    loaded.value = false
    history.clear()
  }

  return { byId, list, nodes, loaded, error, updatedMs, history, historyVersion, load, use, forget }
})
