/* The sentence and the hint of an error, as the server wrote them. */
import { ApiError } from '@/api/client'
import { i18n } from '@/locales'
import { useNotices } from '@/stores/notices'

export function errorText(error: unknown): string {
  const t = i18n.global.t
  if (error instanceof ApiError) {
    if (error.unreachable) return t('error.unreachable')
    if (error.retryAfterS !== null && error.status === 429) return `${error.message} ${t('error.retryAfter', { s: error.retryAfterS })}`
    return error.message
  }
  return t('error.ours')
}

/** For a form: what is wrong with its first field, where the server names one. */
export function reasonText(error: unknown): string {
  return (error instanceof ApiError && error.fields[0]?.message) || errorText(error)
}

export function errorHint(error: unknown): string | null {
  if (error instanceof ApiError) return error.unreachable ? i18n.global.t('error.unreachableHint') : error.hint
  return error instanceof Error ? error.message : null
}

export function tellError(error: unknown): void {
  useNotices().error(errorText(error), errorHint(error))
}
