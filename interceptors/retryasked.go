package interceptors

import "context"

// RetryAsked returns a Retryable for retry.Config that answers yes to errors by
// which the server asks for another attempt, with grpc-retry-pushback-ms or a
// RetryInfo, and no to all others. With it [Retry] sends a request again only if
// it was not sent before or if the server wants it: for methods of which carrying
// out a request twice does harm. It may be used concurrently.
func RetryAsked() func(ctx context.Context, err error) bool {
	return func(_ context.Context, err error) bool {
		delay, said := askedDelay(err)
		return said && delay >= 0
	}
}
