/* One clock for every running number on the page, in the server's time. */
import { readonly, ref } from 'vue'
import { serverNow } from '@/api/client'

const now = ref(serverNow())
setInterval(() => {
  if (!document.hidden) now.value = serverNow()
}, 1000)
document.addEventListener('visibilitychange', () => {
  now.value = serverNow()
})

export const nowMs = readonly(now)
