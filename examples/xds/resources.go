package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"

	xdstype "github.com/cncf/xds/go/xds/type/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	wrrlocality "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// service is the name that the client dials, and that of its resources.
const service = "orders"

// listenerOf is the name of the resource of a server's listener. The bootstrap of
// the servers has the same form.
const listenerOf = "grpc/server?xds.resource.listening_address="

// packed returns m in an Any.
func packed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err) // a message of this program cannot be encoded
	}
	return a
}

// policy is turret.P2C as a control plane sends it: a TypedStruct, whose type says
// which policy it is and whose value is the JSON of balance.Config, below
// wrr_locality, which weighs localities.
func policy(config map[string]any) *cluster.LoadBalancingPolicy {
	value, err := structpb.NewStruct(config)
	if err != nil {
		panic(err)
	}
	p2c := &xdstype.TypedStruct{TypeUrl: "type.googleapis.com/turret.P2C", Value: value}
	return one("wrr_locality", &wrrlocality.WrrLocality{EndpointPickingPolicy: one("turret.P2C", p2c)})
}

func one(name string, m proto.Message) *cluster.LoadBalancingPolicy {
	return &cluster.LoadBalancingPolicy{Policies: []*cluster.LoadBalancingPolicy_Policy{
		{TypedExtensionConfig: &core.TypedExtensionConfig{Name: name, TypedConfig: packed(m)}},
	}}
}

// clientResources are all that the client asks for: what its name is routed to, the
// policy, and the servers of two zones, of which b is used if a is not to be had.
func clientResources(config map[string]any, zones [][]*server) map[resource.Type][]types.Resource {
	ads := &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3, ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
	return map[resource.Type][]types.Resource{
		resource.ListenerType: {&listener.Listener{Name: service, ApiListener: &listener.ApiListener{ApiListener: packed(&manager.HttpConnectionManager{
			RouteSpecifier: &manager.HttpConnectionManager_Rds{Rds: &manager.Rds{ConfigSource: ads, RouteConfigName: service}},
			HttpFilters:    filters(),
		})}}},
		resource.RouteType: {&route.RouteConfiguration{Name: service, VirtualHosts: []*route.VirtualHost{{
			Name: service, Domains: []string{"*"},
			Routes: []*route.Route{{Match: everything(), Action: &route.Route_Route{Route: &route.RouteAction{
				ClusterSpecifier: &route.RouteAction_Cluster{Cluster: service},
			}}}},
		}}}},
		resource.ClusterType: {&cluster.Cluster{
			Name: service, ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:    &cluster.Cluster_EdsClusterConfig{EdsConfig: ads},
			LoadBalancingPolicy: policy(config),
		}},
		resource.EndpointType: {&endpoint.ClusterLoadAssignment{ClusterName: service, Endpoints: localities(zones)}},
	}
}

func localities(zones [][]*server) (all []*endpoint.LocalityLbEndpoints) {
	for i, servers := range zones {
		l := &endpoint.LocalityLbEndpoints{
			Locality: &core.Locality{Zone: servers[0].name[:1]}, Priority: uint32(i),
			LoadBalancingWeight: wrapperspb.UInt32(1),
		}
		for _, s := range servers {
			l.LbEndpoints = append(l.LbEndpoints, &endpoint.LbEndpoint{
				LoadBalancingWeight: wrapperspb.UInt32(s.weight),
				HostIdentifier:      &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address(s.address)}},
			})
		}
		all = append(all, l)
	}
	return all
}

// serverResources is the listener of one server: its RPCs go to its handlers.
func serverResources(at string) map[resource.Type][]types.Resource {
	return map[resource.Type][]types.Resource{resource.ListenerType: {&listener.Listener{
		Name: listenerOf + at, Address: address(at),
		FilterChains: []*listener.FilterChain{{Name: "all", Filters: []*listener.Filter{{
			Name: "http", ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed(&manager.HttpConnectionManager{
				HttpFilters: filters(),
				RouteSpecifier: &manager.HttpConnectionManager_RouteConfig{RouteConfig: &route.RouteConfiguration{VirtualHosts: []*route.VirtualHost{{
					Name: "all", Domains: []string{"*"},
					Routes: []*route.Route{{Match: everything(), Action: &route.Route_NonForwardingAction{NonForwardingAction: &route.NonForwardingAction{}}}},
				}}}},
			})},
		}}}},
	}}}
}

func filters() []*manager.HttpFilter {
	return []*manager.HttpFilter{{Name: "router", ConfigType: &manager.HttpFilter_TypedConfig{TypedConfig: packed(&router.Router{})}}}
}

func everything() *route.RouteMatch {
	return &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: ""}}
}

func address(hostPort string) *core.Address {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		panic(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		panic(err)
	}
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}
}

// bootstrap is what a process knows of its control plane when it starts. Programs
// have it in the file that GRPC_XDS_BOOTSTRAP names. Each process needs a node of
// its own: go-control-plane's cache answers a node only if its snapshot has nothing
// but what the node asks for.
func bootstrap(plane, node string) []byte {
	text, err := json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{
			"server_uri": plane, "server_features": []string{"xds_v3"},
			"channel_creds": []any{map[string]string{"type": "insecure"}},
		}},
		"node": map[string]string{"id": node},

		"server_listener_resource_name_template": fmt.Sprint(listenerOf, "%s"),
	})
	if err != nil {
		panic(err)
	}
	return text
}
