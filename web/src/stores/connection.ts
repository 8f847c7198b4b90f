/* Whether the server can be reached and whether live updates flow, for the thin bar at the top
 * and for the age that stale data shows. */
import { defineStore } from 'pinia'
import { computed, onScopeDispose, ref, watch, type Ref } from 'vue'
import { post } from '@/api/client'
import { Live, type LiveMessage, type LiveState } from '@/api/live'
import type { Ticket } from '@/api/types'
import { usePrefs } from './prefs'
import { useSession } from './session'

export const useConnection = defineStore('connection', () => {
  const session = useSession()
  const prefs = usePrefs()
  const live = ref<LiveState>('idle')
  const retryAtMs = ref<number | null>(null)
  const reachable = ref(true)
  const lastContactMs = ref(Date.now())
  const troubleSinceMs = ref<number | null>(null)

  async function ticketQuery(): Promise<string> {
    const { ticket } = await post<Ticket>('/v1/session/ticket')
    return `?ticket=${encodeURIComponent(ticket)}`
  }

  const link = new Live({
    async address() {
      const query = await ticketQuery()
      return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/ws${query}&lang=${prefs.locale}`
    },
    onState(state, retryAt) {
      live.value = state
      retryAtMs.value = retryAt
      if (state === 'open' || state === 'idle') troubleSinceMs.value = null
      else if (state === 'waiting') troubleSinceMs.value ??= Date.now()
    },
  })

  watch(
    () => session.state,
    (state) => (state === 'in' ? link.start() : link.stop()),
    { immediate: true },
  )
  // Sentences of the server come in the reader's language.
  watch(
    () => prefs.locale,
    () => link.again(),
  )
  window.addEventListener('online', () => link.retryNow())
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) link.retryNow()
  })

  const status = computed<'live' | 'polling' | 'lost'>(() =>
    live.value === 'open' || live.value === 'idle' || troubleSinceMs.value === null
      ? 'live'
      : reachable.value
        ? 'polling'
        : 'lost',
  )

  function reached(ok: boolean): void {
    reachable.value = ok
    if (ok) lastContactMs.value = Date.now()
  }

  return { live, retryAtMs, reachable, lastContactMs, troubleSinceMs, status, link, reached, retryNow: () => link.retryNow() }
})

/** Subscribes while the component (or scope) lives; the topic may change or be null. */
export function useTopic(
  topic: Ref<string | null>,
  onMessage: (message: LiveMessage) => void,
  onResync: () => void,
): void {
  const connection = useConnection()
  let leave: (() => void) | null = null
  watch(
    topic,
    (name) => {
      leave?.()
      leave = name === null ? null : connection.link.subscribe(name, { onMessage, onResync })
    },
    { immediate: true },
  )
  onScopeDispose(() => leave?.())
}
