#!/bin/sh
# Judges the policies of a pull request. It needs no service and no token, but the packages jitaccess[cli] and jit-service.
# Usage: check-policies.sh FILE [BASE]; BASE is what to compare with, such as origin/main.
set -eu
file=$1 base=${2:-origin/main}
jit policy lint --offline "$file"
jit policy test --offline "$file"
# What would change, for whoever reviews it. A difference exits with 1, and is no failure.
git show "$base:$file" | jit policy diff --offline --against - --prune "$file" || [ $? -eq 1 ]
