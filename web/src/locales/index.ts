/* Languages are loaded when they are chosen; a missing text falls back to English. */
import type { Language } from 'element-plus/es/locale'
import { shallowRef } from 'vue'
import { createI18n } from 'vue-i18n'
import en from './en'

export type Messages = typeof en
export type Locale = 'en' | 'zh-CN'
export const locales: { id: Locale; name: string }[] = [
  { id: 'en', name: 'English' },
  { id: 'zh-CN', name: '简体中文' },
]

export const i18n = createI18n({
  legacy: false,
  locale: 'en',
  fallbackLocale: 'en',
  messages: { en } as Record<string, Messages>,
  missingWarn: import.meta.env.DEV,
  fallbackWarn: import.meta.env.DEV,
})

/** The few texts of the component library; undefined is its English. */
export const elementTexts = shallowRef<Language | undefined>(undefined)
let elementChinese: Language | undefined

export function systemLocale(): Locale {
  return /^zh/i.test(navigator.language) ? 'zh-CN' : 'en'
}

export async function loadLocale(locale: Locale): Promise<void> {
  if (locale === 'zh-CN' && !i18n.global.availableLocales.includes(locale)) {
    const [texts, library] = await Promise.all([import('./zh'), import('element-plus/es/locale/lang/zh-cn')])
    i18n.global.setLocaleMessage(locale, texts.default)
    elementChinese = library.default
  }
  elementTexts.value = locale === 'zh-CN' ? elementChinese : undefined
  i18n.global.locale.value = locale
}
