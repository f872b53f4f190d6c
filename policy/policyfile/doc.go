// Package policyfile reads policies from files, in YAML and in JSON, and loads
// them again when a file changes.
//
//	rules:
//	  - name: everything
//	    methods: ["/*"]
//	    client:
//	      timeout: 2s
//	      retry: {max_attempts: 3, codes: [UNAVAILABLE]}
//
// The fields are those of turret.policy.v1.Policy, in snake_case or in camelCase.
// A duration is written with its unit, as Go has them: "500ms", "1m30s". A value
// of an enum is its name, with or without the prefix: SHADOW or MODE_SHADOW.
// JSON is read by the same rules, with the same errors.
//
// What cannot have been meant is an error with its line and column: an unknown
// field, a field that is given twice, null, a number without a unit, a per cent
// sign, an anchor. Nothing is ignored.
package policyfile
