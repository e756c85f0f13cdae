# SPDX-License-Identifier: Apache-2.0
# Building images without a container engine and without a network. To be sourced after cache.sh.

# image_archive CONTEXT DOCKERFILE TARGET NAME ARCHIVE: build the image and write it as a docker archive.
# An empty TARGET means the last stage.
image_archive() {
  local context="$1" dockerfile="$2" target="$3" name="$4" archive="$5"
  local store="$cache/buildah" log="$cache/logs/buildah.log"
  mkdir -p "$cache/logs" "$(dirname "$archive")"
  local buildah=(buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs)
  rm -f "$archive.new"
  if ! {
    "${buildah[@]}" bud --isolation chroot --pull-never ${target:+--target "$target"} \
      --file "$dockerfile" --tag "$name" "$context" &&
      "${buildah[@]}" push "$name" "docker-archive:$archive.new:$name"
  } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    fail "the image $name could not be built; the whole log is $log"
  fi
  "${buildah[@]}" rmi --force "$name" >/dev/null 2>&1 || true
  mv "$archive.new" "$archive"
}
