/* The token of a link that Drover sent. It stands behind the # of the address, so that no server
 * or proxy sees it; once used, it leaves the address and the history of the browser. */
import { ref, watch, type Ref } from 'vue'
import { useRoute, useRouter } from 'vue-router'

export function tokenOf(hash: string): string {
  return (new URLSearchParams(hash.replace(/^#/, '')).get('token') ?? '').trim()
}

/** `used` takes the token from the address, `token` keeps it; `opened` is called when a link is opened
 * in a tab that shows the page already. */
export function useLink(opened: () => void): { token: Ref<string>; used: () => Promise<unknown> } {
  const route = useRoute()
  const router = useRouter()
  const page = route.path
  const token = ref(tokenOf(route.hash))
  watch(
    () => route.hash,
    (hash) => {
      if (route.path !== page || !tokenOf(hash)) return
      token.value = tokenOf(hash)
      opened()
    },
  )
  // By the router, which otherwise writes the address that it remembers back into the history.
  return { token, used: () => router.replace({ path: page, query: route.query }) }
}
