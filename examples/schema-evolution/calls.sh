# A customer who knows the desk from desk.proto, as it was at first, and asks nobody: sh calls.sh HOST:PORT
set -e
cd "$(dirname "$0")"

grpcurl -plaintext -proto desk.proto -d '{"item": "couch", "count": 2}' "$1" example.desk/place
grpcurl -plaintext -proto desk.proto -d '{"number": 2}' "$1" example.desk/find
