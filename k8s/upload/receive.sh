# Receives a tar archive on its standard input as the folder uploads/NAME of the volume:
#     tar -C FOLDER -cf - . | kubectl exec -i job/campaign-upload -- sh /upload/receive.sh NAME
# An upload that breaks off leaves the former folder as it was.
set -eu
name=$1
case $name in "" | .* | */*) echo "receive.sh: '$name' is no name of a folder: use letters, digits, '-' and '_'" >&2; exit 2 ;; esac
uploads=${HOME_VOLUME:-/var/recommender}/uploads
umask 027
mkdir -p "$uploads"
rm -rf "$uploads/.$name.new"
mkdir "$uploads/.$name.new"
# As our user, not as the one who packed it; permissions come from the umask.
tar -x -C "$uploads/.$name.new" --no-same-owner --no-same-permissions
rm -rf "$uploads/.$name.old"
[ ! -e "$uploads/$name" ] || mv "$uploads/$name" "$uploads/.$name.old"
mv "$uploads/.$name.new" "$uploads/$name"
rm -rf "$uploads/.$name.old"
echo "$(find "$uploads/$name" -type f | wc -l) files in $uploads/$name"
touch "${DONE:-/tmp/done}"
