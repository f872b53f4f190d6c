// Package retry sends a request again when its call failed.
package retry
