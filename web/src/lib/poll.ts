/* Reads something again from time to time while the page is shown and visible. */
import { onScopeDispose } from 'vue'

export function usePoll(work: () => unknown, everyMs: number): void {
  const tick = () => {
    if (!document.hidden) void work()
  }
  const timer = setInterval(tick, everyMs)
  document.addEventListener('visibilitychange', tick)
  onScopeDispose(() => {
    clearInterval(timer)
    document.removeEventListener('visibilitychange', tick)
  })
}

/** Runs at most once per `everyMs`, and once more after the last call. */
export function throttle(work: () => void, everyMs: number): () => void {
  let timer: ReturnType<typeof setTimeout> | null = null
  let again = false
  return function run() {
    if (timer !== null) {
      again = true
      return
    }
    work()
    timer = setTimeout(() => {
      timer = null
      if (again) {
        again = false
        run()
      }
    }, everyMs)
  }
}
