#!/bin/sh
# Takes out of a virtual environment what a server never reads: `trim.sh /opt/venv`. Bytecode stays, for quick starts.
set -eu
cd "$1"
bin/python -m pip uninstall --quiet --yes pip
cd lib/python3*/site-packages
find . -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
find . -type f \( -name '*.so' -o -name '*.so.[0-9]*' \) -exec strip --strip-unneeded {} +
find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.[ch]' -o -name '*.hpp' -o -name '*.a' \) -delete
# rich colours code of any language; of a server's output nobody asks that.
find . -path './pygments/lexers/*' ! -name '__init__*' ! -name '_mapping*' ! -name 'python*' -type f -delete
# Parts of pyarrow that nothing here calls, Flight and S3, and names of its libraries that only a linker uses.
if [ -d pyarrow ]; then
    find pyarrow \( -name '*flight*' -o -name '*_s3*' \) -delete
    rm -rf pyarrow/include pyarrow/src
    find pyarrow \( -name 'libarrow*.so' -o -name 'libarrow*.so.*.*' \) -delete
    "$1/bin/python" -c 'import pyarrow.parquet'
fi
# What strip has broken must not get any further.
find . -name '*.so' | "$1/bin/python" -c 'import ctypes, sys; [ctypes.CDLL(line.strip()) for line in sys.stdin]'
