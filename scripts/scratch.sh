# Sourced by a job on a cluster, whose tensors lie on its node's own disk: `. scratch.sh MEGABYTES LIMIT` makes the folder
# $scratch in $DETPORT_SCRATCH and removes it when the job's shell ends. A lock on the folder, which the job's stages inherit,
# lives as long as they do: what killed jobs left is removed by the next one here, and jobs of one user that find no room
# within LIMIT MB beside each other wait for it.

here=$DETPORT_SCRATCH
for ((looks = 0; ; looks++)); do
  exec 8< "$here"
  flock 8 # one at a time looks around
  taken=0
  for each in "$here"/*.mb; do
    [ -d "$each" ] || continue
    flock --nonblock "$each" rm -rf "$each" && continue
    size=${each%.mb}
    taken=$((taken + ${size##*.}))
  done
  [ $((taken + $1)) -gt "$2" ] && [ "$taken" -gt 0 ] || break
  [ "$looks" -gt 0 ] || echo "waiting: $taken of $2 MB in $here are taken by other jobs, this one needs $1" >&2
  exec 8<&-
  sleep 5
done
scratch=$(mktemp --directory "$here/XXXXXXXX.$1.mb")
trap 'rm -rf "$scratch"' EXIT
exec 9< "$scratch" && flock 9 && exec 8<&-
