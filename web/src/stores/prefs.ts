/* What a reader likes: theme, language, how logs look. Kept in the browser only. */
import { defineStore } from 'pinia'
import { ref, watch } from 'vue'
import { loadLocale, systemLocale, type Locale } from '@/locales'

export type Theme = 'light' | 'dark' | 'auto'

function read(name: string): string | null {
  try {
    return localStorage.getItem(`drover.${name}`)
  } catch {
    return null
  }
}
function write(name: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`drover.${name}`)
    else localStorage.setItem(`drover.${name}`, value)
  } catch {
    // Private windows may refuse storage; the choice then lasts as long as the page.
  }
}

export const usePrefs = defineStore('prefs', () => {
  const stored = read('theme')
  const theme = ref<Theme>(stored === 'light' || stored === 'dark' ? stored : 'auto')
  const dark = ref(false)
  const storedLocale = read('locale')
  const locale = ref<Locale>(storedLocale === 'en' || storedLocale === 'zh-CN' ? storedLocale : systemLocale())
  const wrapLogs = ref(read('wrap') === '1')
  const gpuView = ref<'cards' | 'table' | null>(
    read('gpu-view') === 'cards' ? 'cards' : read('gpu-view') === 'table' ? 'table' : null,
  )

  const system = matchMedia('(prefers-color-scheme: dark)')
  function paint(): void {
    dark.value = theme.value === 'dark' || (theme.value === 'auto' && system.matches)
    document.documentElement.classList.toggle('dark', dark.value)
  }
  system.addEventListener('change', paint)
  watch(theme, (value) => {
    write('theme', value === 'auto' ? null : value)
    paint()
  })
  watch(wrapLogs, (value) => write('wrap', value ? '1' : null))
  watch(gpuView, (value) => write('gpu-view', value))
  paint()

  async function setLocale(next: Locale): Promise<void> {
    await loadLocale(next)
    locale.value = next
    write('locale', next)
    document.documentElement.lang = next
  }

  return { theme, dark, locale, wrapLogs, gpuView, setLocale }
})
