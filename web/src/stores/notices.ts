/* Short messages at the edge of the page, read out by screen readers; errors stay longer. */
import { defineStore } from 'pinia'
import { ref } from 'vue'

export interface Notice {
  id: number
  kind: 'done' | 'error'
  text: string
  hint: string | null
  link: { text: string; to: string } | null
}

export const useNotices = defineStore('notices', () => {
  const list = ref<Notice[]>([])
  let next = 1

  function close(id: number): void {
    list.value = list.value.filter((n) => n.id !== id)
  }
  function add(kind: Notice['kind'], text: string, hint: string | null = null, link: Notice['link'] = null): void {
    const id = next++
    list.value = [...list.value.slice(-3), { id, kind, text, hint, link }]
    setTimeout(() => close(id), kind === 'error' ? 15_000 : 5_000)
  }
  return {
    list,
    close,
    done: (text: string, link: Notice['link'] = null) => add('done', text, null, link),
    error: (text: string, hint: string | null = null) => add('error', text, hint),
  }
})
