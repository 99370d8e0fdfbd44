// A client of Gatehouse in a page of another origin. Copy it: it needs no package.
// Tokens stay in memory, where a script that gets into another page of this origin does not find them later.

export class Refused extends Error {
  constructor(status, body) {
    super(body.detail ?? body.error_description ?? body.title)
    this.status = status
    this.code = body.code // stable: docs/refusals.md says what to do about each
  }
}

export class Session {
  #url
  #tokens = null
  #refreshing = null

  constructor(url) {
    this.#url = url
  }

  register(person) {
    return this.#send("/v1/users", { json: person })
  }

  async signIn(username, password) {
    this.#tokens = await this.#grant({ grant_type: "password", username, password })
  }

  // One refresh at a time, however many calls wait for it: each one makes the refresh token before it old.
  refresh() {
    const refresh_token = this.#tokens?.refresh_token ?? ""
    this.#refreshing ??= this.#grant({ grant_type: "refresh_token", refresh_token })
      .then((tokens) => (this.#tokens = tokens))
      .finally(() => (this.#refreshing = null))
    return this.#refreshing
  }

  async signOut() {
    const form = { token: this.#tokens?.refresh_token ?? "" }
    await this.#send("/auth/revoke", { form })
    this.#tokens = null
  }

  // Any route of any service; a token that ran out is replaced once.
  async call(path, options = {}) {
    try {
      return await this.#send(path, { ...options, token: this.#tokens?.access_token })
    } catch (error) {
      if (error.code !== "token_expired") throw error
      await this.refresh()
      return this.#send(path, { ...options, token: this.#tokens.access_token })
    }
  }

  #grant(form) {
    return this.#send("/auth/token", { form, headers: device() })
  }

  async #send(path, { method, json, form, token, headers = {} }) {
    const body = json ? JSON.stringify(json) : form && new URLSearchParams(form)
    const response = await fetch(this.#url + path, {
      method: method ?? (body ? "POST" : "GET"),
      body,
      headers: {
        ...headers,
        ...(json && { "content-type": "application/json" }),
        ...(token && { authorization: `Bearer ${token}` }),
      },
    })
    keepDevice(response)
    const text = await response.text()
    const said = text ? JSON.parse(text) : null
    if (!response.ok) throw new Refused(response.status, said)
    return said
  }
}

// Cookies do not cross origins here. The device's value, which gives it failed attempts of its own, is a header.
function device() {
  const value = localStorage.getItem("device")
  return value ? { "x-device-token": value } : {}
}

function keepDevice(response) {
  const value = response.headers.get("x-device-token")
  if (value) localStorage.setItem("device", value)
}
