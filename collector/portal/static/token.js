// The token of the reader. It lives as long as the tab: sessionStorage and nowhere else.

const KEY = "edgeqoe-token";

export function storedToken() {
  return sessionStorage.getItem(KEY);
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}
