// The page: each button is one call, and what came of it is shown.
import { Session } from "./api.js"

const session = new Session(new URLSearchParams(location.search).get("api") ?? "http://localhost:8080")
const form = document.getElementById("form")
const said = document.getElementById("said")

async function show(call) {
  said.textContent = "…"
  try {
    said.textContent = JSON.stringify((await call()) ?? "done", null, 2)
  } catch (error) {
    said.textContent = `${error.status ?? "no answer"} ${error.code ?? ""}: ${error.message}`
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  const { name, email, password } = Object.fromEntries(new FormData(form))
  if (event.submitter.value === "register") show(() => session.register({ name, email, password }))
  else show(() => session.signIn(email, password))
})

document.getElementById("read").onclick = () => show(() => session.call("/v1/users/me"))
document.getElementById("refresh").onclick = () => show(() => session.refresh().then(() => "refreshed"))
document.getElementById("signOut").onclick = () => show(() => session.signOut())
